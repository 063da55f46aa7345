"""Writing on from a prompt, a token at a time, the same for the same seed.

The prompt is read in one go into a cache of keys and values, then each token costs one position.
Sampling applies the repetition penalty, divides by the temperature, keeps the `top_k` likeliest, of
these the nucleus of `top_p` (arXiv 1904.09751), and draws with a generator of its own: torch's is
not touched, nor is the model.
Text, and where a stop text ends it, is `yxanul.evaluate.answers.completion`.
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from yxanul.config.tokens import END_OF_TEXT
from yxanul.errors import NumericsError, UsageError
from yxanul.model.cache import KeyValueCache
from yxanul.model.decoding import Decoder
from yxanul.model.transformer import Transformer

SEEDS = 2**63
"""Seeds are 0 and what is below it."""
# Bounds the scores of a long prompt to (heads, 1024, seq) numbers at once.
_PREFILL_TOKENS = 1024


@dataclass(frozen=True)
class GenerationOptions:
    """How to go on from a prompt; an impossible value is a `UsageError`."""

    max_new_tokens: int = 100
    temperature: float = 0.8
    """0 takes the likeliest token every time; 1 samples from the model's own distribution."""
    top_k: int | None = None
    """Sample among so many tokens; None: among all."""
    top_p: float = 0.95
    """Sample among the likeliest tokens that together have this probability; 1: among all."""
    repetition_penalty: float = 1.0
    """Above 1 makes the ids of prompt and text less likely (arXiv 1909.05858); 1: off."""
    seed: int = 0
    end_token: int = END_OF_TEXT
    """Ends the text and is the last id that may be sampled."""

    def __post_init__(self) -> None:
        checks = {
            "max_new_tokens": (self.max_new_tokens >= 1, "a whole number from 1"),
            "temperature": (0 <= self.temperature < math.inf, "0 (greedy) or a positive number"),
            "top_k": (self.top_k is None or self.top_k >= 1, "a whole number from 1"),
            "top_p": (
                0 < self.top_p <= 1,
                "above 0 and at most 1; temperature 0 is greedy",
            ),
            "repetition_penalty": (
                0 < self.repetition_penalty < math.inf,
                "a positive number; 1 is off",
            ),
            "seed": (0 <= self.seed < SEEDS, "a whole number from 0 to 2**63 - 1"),
        }
        for name, (is_fine, wanted) in checks.items():
            if not is_fine:
                raise UsageError(f"{name} is {getattr(self, name)}; it must be {wanted}")


@dataclass(frozen=True)
class Generation:
    """What was written, and why it ended."""

    tokens: list[int]
    """New tokens, without the end token."""
    stop_reason: str
    """end_of_text, stop_text, max_new_tokens, or context: the model's positions are full."""
    seconds: float
    """Time spent, prompt included."""

    @property
    def tokens_per_s(self) -> float:
        """Tokens written per second, the end token counted."""
        return (len(self.tokens) + (self.stop_reason == "end_of_text")) / self.seconds


def generate(
    model: Transformer | Decoder,
    prompt: Sequence[int],
    *,
    options: GenerationOptions,
    is_finished: Callable[[int], bool] | None = None,
) -> Generation:
    """Write on from the ids of a prompt, which begins with the end token as documents do.

    `is_finished` sees each new token and answers whether it is the last (stop_text). A prompt that
    leaves no position is a `UsageError`, weights that are not finite a `NumericsError`.
    """
    begin = time.perf_counter()
    decoder = decoding_copy(model)
    device, config = decoder.device, decoder.config
    room, reason = room_after(len(prompt), config.max_position_embeddings, options=options)
    cache = KeyValueCache(config.num_hidden_layers, rows=1, columns=len(prompt) + room)
    random = torch.Generator(device).manual_seed(options.seed)
    tokens: list[int] = []
    unread = torch.tensor([list(prompt)], device=device)
    while len(tokens) < room:
        for piece in torch.split(unread, _PREFILL_TOKENS, dim=1):
            logits = decoder.next_logits(piece, cache)
        token = sample(logits[0], options=options, random=random, seen=[*prompt, *tokens])
        if token == options.end_token:
            reason = "end_of_text"
            break
        tokens.append(token)
        if is_finished is not None and is_finished(token):
            reason = "stop_text"
            break
        unread = torch.tensor([[token]], device=device)
    return Generation(tokens, reason, time.perf_counter() - begin)


def decoding_copy(model: Transformer | Decoder) -> Decoder:
    """Return what writes with a model's weights: itself, or a decoder of what they are now."""
    return model if isinstance(model, Decoder) else Decoder(model)


def sample(
    logits: Tensor,
    *,
    options: GenerationOptions,
    random: torch.Generator,
    seen: Sequence[int] = (),
) -> int:
    """Draw one id from (vocab,) logits; ids after the end token are never drawn.

    `seen` are the ids of prompt and text so far, which a repetition penalty makes less likely.
    """
    logits = logits[: options.end_token + 1].double()
    logits = penalised(logits, seen, penalty=options.repetition_penalty)
    if not logits.max().isfinite():
        raise NumericsError("the model's logits are not finite, so nothing can be sampled")
    if options.temperature == 0:
        return int(logits.argmax())
    ids, probabilities = candidates(logits, options)
    # One number for each token, laid along the ids: logits that are rounded otherwise, as beside
    # other rows, then draw the same, which multinomial's number per candidate would not.
    mark = torch.rand((), dtype=torch.float64, device=logits.device, generator=random)
    sums = probabilities.cumsum(0)
    found = torch.searchsorted(sums, mark * sums[-1], right=True)
    return int(ids[found.clamp(max=len(ids) - 1)])


def penalised(logits: Tensor, seen: Sequence[int], *, penalty: float) -> Tensor:
    """Return (vocab,) logits in which those of `seen` ids are divided by the penalty.

    Those below 0 are multiplied by it. An id counts once, however often it was seen, and ids beyond
    the logits do not count. This is CTRL's penalty (arXiv 1909.05858) as transformers has it.
    """
    if penalty == 1 or not seen:
        return logits
    known = [token for token in set(seen) if token < len(logits)]
    ids = torch.tensor(known, dtype=torch.long, device=logits.device)
    found = logits[ids]
    return logits.index_copy(0, ids, torch.where(found < 0, found * penalty, found / penalty))


def candidates(logits: Tensor, options: GenerationOptions) -> tuple[Tensor, Tensor]:
    """Return the ids that may be drawn from (vocab,) fp64 logits, and their probabilities (sum 1).

    The ids rise. Temperature above 0, then top_k, then top_p; at least one id is left.
    """
    # Less the largest first: a tiny temperature then gives 0 and -inf, never inf or nan.
    scaled = (logits - logits.max()) / options.temperature
    ids = torch.arange(len(logits), device=logits.device)
    if options.top_k is not None and options.top_k < len(logits):
        scaled, ids = scaled.topk(options.top_k)
    probabilities = scaled.softmax(0)
    if options.top_p < 1:
        # Ids below this share have less than 1 - top_p together, so none of them is in the nucleus;
        # without them there is little to sort.
        likely = probabilities >= (1 - options.top_p) / len(probabilities)
        probabilities, order = probabilities[likely].sort(descending=True, stable=True)
        nucleus = probabilities.cumsum(0) - probabilities < options.top_p
        probabilities, ids = probabilities[nucleus], ids[likely][order][nucleus]
        probabilities = probabilities / probabilities.sum()
    if options.top_k is not None or options.top_p < 1:
        ids, order = ids.sort()
        probabilities = probabilities[order]
    return ids, probabilities


def room_after(tokens: int, positions: int, *, options: GenerationOptions) -> tuple[int, str]:
    """Return how many tokens may follow a prompt of so many, and what ends the text there.

    A prompt that leaves none is a `UsageError`.
    """
    if tokens >= positions:
        raise UsageError(
            f"the prompt has {tokens:,} tokens (the <|endoftext|> before it counted), and the "
            f"model has {positions:,} positions for prompt and continuation together; shorten it "
            f"to at most {positions - 1:,} tokens"
        )
    if options.max_new_tokens <= positions - tokens:
        return options.max_new_tokens, "max_new_tokens"
    return positions - tokens, "context"
