"""Our generation beside transformers' `generate` on the same weights, as a table.

    python -m benchmarks.generating [--shapes nano flagship] [--repeats 5] [--clock cpu]

The model is ours and, made from it in memory, transformers' GemmaForCausalLM; weights are random.
Both take the likeliest token every time and must write the same ids; where they do not, the two
best logits have to be nearly equal there, which is told. Contestants take turns in one process, and
a figure is the median of the repeats.

`one` writes after one prompt of 32 tokens. `many` are 32 requests whose prompts (4 to 256 words)
and texts (8 to 128 tokens) are of uneven length: ours in one batch whose rows come free as texts
end; theirs padded on the left, all at once until the last has ended, and one after another.
"""

from __future__ import annotations

import argparse
import math
import random
import statistics
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers

from benchmarks.gemma import as_gemma
from yxanul.config.load import load_config
from yxanul.data.tokenizer import EOT, load_tokenizer
from yxanul.evaluate.answers.requests import WritingRequest
from yxanul.evaluate.answers.writing import write
from yxanul.evaluate.models.ours import OurModel, as_language_model
from yxanul.hardware.choices import DTYPES
from yxanul.model.generation import GenerationOptions, generate
from yxanul.model.transformer import Transformer

CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}
NEARLY = 1e-4
WORDS = ("the", "city", "of", "a", "river", "in", "old", "and", "small", "was", "there", "people")

Contest = dict[str, Callable[[], list[Any]]]
"""What each contestant does, ours first; it returns each text, theirs as ids."""


@dataclass(frozen=True)
class Request:
    """A prompt, its ids, and how many tokens to write after it."""

    prompt: str
    ids: list[int]
    new: int


def main() -> None:
    """Time every contest, and print a line for each."""
    asked = _arguments()
    warnings.simplefilter("ignore")
    transformers.logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    torch.set_num_threads(asked.threads)
    print(f"{asked.threads} threads, {asked.clock} clock, {asked.repeats} repeats", end="\n\n")
    print("| contest | shape | type | ours, tokens/s | transformers, tokens/s | | same texts |")
    print("|---|---|---|---|---|---|---|")
    for shape in asked.shapes:
        for precision in asked.precision:
            arena = Arena(shape, DTYPES[precision])
            for contest in asked.contests:
                if (shape, contest) != ("flagship", "many"):
                    cells = _row(arena, contest, asked=asked)
                    print(f"| {contest} | {shape} | {precision} | {cells} |", flush=True)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shapes", nargs="+", default=["nano", "flagship"], help="configs/models")
    parser.add_argument("--contests", nargs="+", default=["one", "many"], choices=["one", "many"])
    parser.add_argument("--precision", nargs="+", default=["fp32"], choices=list(DTYPES))
    parser.add_argument("--new", type=int, default=64, help="tokens after one prompt")
    parser.add_argument("--requests", type=int, default=32)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument(
        "--clock",
        default="wall",
        choices=list(CLOCKS),
        help="cpu counts the work of all threads, where others use the cores too",
    )
    return parser.parse_args()


class Arena:
    """Both contestants in one type."""

    def __init__(self, shape: str, dtype: torch.dtype) -> None:
        config = load_config(Path("configs"), model=shape).model
        model = Transformer.initialised(config, seed=1, attention="plain", compute_dtype=dtype)
        # In transformers' own type for all weights, norms too, as it would load an export.
        self.theirs = as_gemma(model).to(dtype)
        self.ours: OurModel = as_language_model(model, load_tokenizer(), name=shape)

    def one(self, request: Request) -> Contest:
        """One text after one prompt."""
        options = GenerationOptions(temperature=0, max_new_tokens=request.new)
        return {
            "ours": lambda: [
                self.ours.decode(generate(self.ours.model, request.ids, options=options).tokens)
            ],
            "transformers": lambda: self._in_turn([request]),
        }

    def many(self, requests: list[Request]) -> Contest:
        """Texts after many prompts."""
        asked = [WritingRequest(one.prompt, (), one.new) for one in requests]
        return {
            "ours": lambda: write(self.ours, asked, batch=len(asked)),
            "all at once": lambda: self._at_once(requests),
            "in turn": lambda: self._in_turn(requests),
        }

    def _in_turn(self, requests: list[Request]) -> list[list[int]]:
        return [self._generate([one], max_new_tokens=one.new)[0] for one in requests]

    def _at_once(self, requests: list[Request]) -> list[list[int]]:
        width = max(len(one.ids) for one in requests)
        ends = torch.tensor([width + one.new for one in requests])

        class Enough(transformers.StoppingCriteria):
            """A row ends when it has its tokens; the others go on."""

            def __call__(self, input_ids: torch.Tensor, scores: Any, **_: Any) -> torch.Tensor:
                return input_ids.size(1) >= ends

        criteria = transformers.StoppingCriteriaList([Enough()])
        longest = max(one.new for one in requests)
        written = self._generate(requests, max_new_tokens=longest, stopping_criteria=criteria)
        return [ids[: one.new] for ids, one in zip(written, requests, strict=True)]

    def _generate(self, requests: list[Request], **options: Any) -> list[list[int]]:
        width = max(len(one.ids) for one in requests)
        padding = [width - len(one.ids) for one in requests]
        tokens = torch.tensor([[EOT] * p + r.ids for p, r in zip(padding, requests, strict=True)])
        mask = torch.tensor([[0] * p + [1] * (width - p) for p in padding])
        written = self.theirs.generate(
            tokens, attention_mask=mask, do_sample=False, pad_token_id=EOT, **options
        )
        texts: list[list[int]] = written[:, width:].tolist()
        return [ids[: ids.index(EOT)] if EOT in ids else ids for ids in texts]

    @torch.no_grad()
    def lead(self, request: Request, wanted: list[int]) -> float:
        """Return by how much our likeliest id leads where it is first not theirs; inf: nowhere."""
        tokens = torch.tensor([request.ids + wanted[:-1]])
        picks = torch.arange(len(request.ids) - 1, tokens.size(1))
        logits = torch.cat(list(self.ours.logits(tokens, picks))).float()
        for row, theirs in zip(logits, wanted, strict=True):
            if int(row.argmax()) != theirs:
                return float(row.max() - row[theirs])
        return math.inf


def _requests(arena: Arena, contest: str, *, asked: argparse.Namespace) -> list[Request]:
    draw = random.Random(3)
    if contest == "one":
        ids = [EOT, *(draw.randrange(EOT) for _ in range(31))]
        return [Request("", ids, asked.new)]
    found = []
    for _ in range(asked.requests):
        prompt = " ".join(draw.choices(WORDS, k=round(4 * 64 ** draw.random())))
        new = round(8 * 16 ** draw.random())
        found.append(Request(prompt, [EOT, *arena.ours.encode([prompt])[0]], new))
    return found


def _row(arena: Arena, contest: str, *, asked: argparse.Namespace) -> str:
    requests = _requests(arena, contest, asked=asked)
    contestants = arena.one(requests[0]) if contest == "one" else arena.many(requests)
    clock, seconds = CLOCKS[asked.clock], {name: list[float]() for name in contestants}
    found: dict[str, list[Any]] = {}
    # The first round is not counted: memory is taken and threads start in it.
    for turn in range(asked.repeats + 1):
        for name, work in contestants.items():
            begin = clock()
            found[name] = work()
            seconds[name] += [clock() - begin] if turn else []
    medians = {name: statistics.median(times) for name, times in seconds.items()}
    ours = medians.pop("ours")
    best = min(medians, key=lambda name: medians[name])
    tokens = sum(one.new for one in requests)
    agreement = _agreement(arena, requests, found)
    theirs = ", ".join(f"{tokens / s:,.1f} ({name})" for name, s in medians.items())
    return f"{tokens / ours:,.1f} | {theirs} | **{medians[best] / ours:.2f}x** | {agreement}"


def _agreement(arena: Arena, requests: list[Request], found: dict[str, list[Any]]) -> str:
    """Return how many texts are the same; one that differs without a near tie is an error."""
    same = 0
    ours = found.pop("ours")
    for theirs in found.values():
        for request, mine, wanted in zip(requests, ours, theirs, strict=True):
            if mine == arena.ours.decode(wanted):
                same += 1
            elif (lead := arena.lead(request, wanted)) > NEARLY:
                raise SystemExit(f"other ids after {request.prompt!r}, where ours lead by {lead}")
    return f"{same} of {len(requests) * len(found)}"


if __name__ == "__main__":
    main()
