"""One text on its way: what it draws, what of it is certain, and when it ends.

A choice, as OpenAI's API calls each text of an answer, has options, a generator and a stop text of
its own, so that it is what `yxanul generate` writes, whichever others are written beside it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from yxanul.config.tokens import END_OF_TEXT
from yxanul.data.tokenizer import Tokenizer
from yxanul.errors import NumericsError
from yxanul.evaluate.answers.completion import TextStream
from yxanul.model.generation import sample
from yxanul.serve.refusals import RequestError
from yxanul.serve.requests import CompletionRequest, Prompt

# What JSON cannot say: a probability of 0.
_LEAST_LOGPROB = -9999.0


@dataclass(frozen=True)
class ScoredToken:
    """A token and its log probability, in nats, before temperature, top_k and top_p."""

    token: int
    offset: int
    """The character of the answer at which it begins."""
    logprob: float | None
    """None where nothing stands before it."""
    likeliest: tuple[tuple[int, float], ...]


@dataclass(frozen=True)
class Piece:
    """What has become certain of a text."""

    text: str
    scored: tuple[ScoredToken, ...]
    tokens: int
    """All that were written so far."""
    ended: str | None = None
    """`stop` or `length` in the last piece."""


Event = Piece | RequestError
"""An error ends a text as its last piece does."""


class Choice:
    """One text of an answer; `deliver` gets its pieces from the thread that writes."""

    def __init__(
        self,
        prompt: Prompt,
        asked: CompletionRequest,
        *,
        seed: int,
        positions: int,
        tokenizer: Tokenizer,
        deliver: Callable[[Event], None],
    ) -> None:
        self.prompt = prompt
        self.tokens: list[int] = []
        self.is_dropped = False
        """Set by any thread, when nobody waits for the text any more."""
        self._asked = asked
        self._room = min(asked.max_tokens, positions - len(prompt.ids))
        self._seed = seed
        self._random: torch.Generator | None = None
        self._stream = TextStream(tokenizer, asked.stop)
        self._deliver = deliver
        self._scored: list[ScoredToken] = []
        self._offset = len(prompt.text) if asked.echo else 0
        self._sent = 0
        self._is_over = False

    @property
    def scores_prompt(self) -> bool:
        """Whether the tokens of the prompt are to be scored too."""
        return self._asked.echo and self._asked.logprobs is not None

    @property
    def likeliest(self) -> int:
        """How many of the likeliest tokens are told with each one."""
        return self._asked.logprobs or 0

    def begin(self, scored: Sequence[ScoredToken]) -> bool:
        """Deliver the prompt if that is wanted; return whether there is something to write."""
        is_over = self._room == 0
        if self._asked.echo or is_over:
            text = self.prompt.text if self._asked.echo else ""
            self._tell(Piece(text, tuple(scored), 0, "length" if is_over else None))
        return not is_over

    def take(self, logits: Tensor) -> bool:
        """Draw a token from (vocab,) logits and deliver what is certain; return whether it ends.

        Logits that are not finite are a `NumericsError`.
        """
        token = sample(logits, options=self._asked.sampling, random=self._generator(logits.device))
        if self._asked.logprobs is not None:
            self._scored += score(
                logits[None],
                [token],
                offsets=[self._offset + self._stream.decoded],
                likeliest=self.likeliest,
            )
        if token == END_OF_TEXT:
            self._send(self._stream.finish(), ended="stop")
            return True
        self.tokens.append(token)
        text = self._stream.push(token)
        if self._stream.is_stopped:
            self._send(text, ended="stop")
        elif len(self.tokens) == self._room:
            self._send(text + self._stream.finish(), ended="length")
        else:
            self._send(text, ended=None)
        return self._stream.is_stopped or len(self.tokens) == self._room

    def fail(self, error: RequestError) -> None:
        """End the text with an error, if it has not ended."""
        if not self._is_over:
            self._is_over = True
            self._deliver(error)

    def _tell(self, piece: Piece) -> None:
        self._is_over = piece.ended is not None
        self._deliver(piece)

    def _generator(self, device: torch.device) -> torch.Generator:
        if self._random is None:
            self._random = torch.Generator(device).manual_seed(self._seed)
        return self._random

    def _send(self, text: str, *, ended: str | None) -> None:
        self._sent += len(text)
        # A token is told with its first character. Of what a stop text cut off none is.
        known = [one for one in self._scored if one.offset < self._offset + self._sent]
        if ended and not self._stream.is_stopped:
            known = self._scored
        self._scored = self._scored[len(known) :]
        if text or known or ended:
            self._tell(Piece(text, tuple(known), len(self.tokens), ended))


def score(
    logits: Tensor, tokens: Sequence[int], *, offsets: Sequence[int], likeliest: int
) -> list[ScoredToken]:
    """Score one token for each row of (rows, vocab) logits; not finite is a `NumericsError`."""
    logprobs = logits[:, : END_OF_TEXT + 1].double().log_softmax(1)
    own = logprobs.gather(1, torch.tensor(tokens, device=logits.device)[:, None])[:, 0]
    if own.isnan().any():
        raise NumericsError("the model's logits are not finite, so nothing can be scored")
    best = logprobs.topk(likeliest, dim=1)
    found = zip(
        tokens, offsets, own.tolist(), best.indices.tolist(), best.values.tolist(), strict=True
    )
    return [
        ScoredToken(
            token,
            offset,
            max(logprob, _LEAST_LOGPROB),
            tuple((i, max(value, _LEAST_LOGPROB)) for i, value in zip(ids, values, strict=True)),
        )
        for token, offset, logprob, ids, values in found
    ]


def prompt_offsets(prompt: Prompt, tokenizer: Tokenizer) -> list[int]:
    """Return the character of a prompt's text at which each id that the client sent begins."""
    stream, offsets = TextStream(tokenizer), []
    for token in prompt.ids[prompt.opening :]:
        offsets.append(stream.decoded)
        stream.push(token)
    return offsets
