"""An item as a model is asked about it, and what a likelihood of it is worth.

The one idea: an item that the model answers with NaN or infinity is an error that names it. Any
number in its place would be a score that nobody reached.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from yxanul.data.benchmarks.items import Item
from yxanul.errors import NumericsError
from yxanul.evaluate.language_model import LanguageModel
from yxanul.evaluate.likelihood import likelihoods
from yxanul.evaluate.requests import Continuations
from yxanul.evaluate.tasks.definitions import before_answer
from yxanul.evaluate.tasks.prompts import right_answer
from yxanul.runfolder.items import BYTES, NATS


@dataclass(frozen=True)
class Asked:
    """The items of a task that are scored, each with its prompt."""

    task: str
    items: tuple[Item, ...]
    prompts: tuple[str, ...]

    def after(self, index: int, *texts: str) -> Continuations:
        """Return the request for texts that may follow an item's prompt."""
        before = before_answer(self.task, self.items[index])
        return Continuations(self.prompts[index], tuple(f"{before}{text}" for text in texts))


def finite_nats(
    model: LanguageModel, asked: Asked, requests: Sequence[Continuations], *, batch_tokens: int
) -> list[tuple[float, ...]]:
    """Return the nats of each request's texts; a request is one item, in order.

    Raises NumericsError for NaN and infinity.
    """
    found = likelihoods(model, requests, batch_tokens=batch_tokens)
    nats = [tuple(one.nats for one in answers) for answers in found]
    for item, costs in zip(asked.items, nats, strict=True):
        if not all(map(math.isfinite, costs)):
            raise NumericsError(
                f"{asked.task}: the model's likelihood of item {item.id} is not a finite number, "
                "so its weights are not; score an older checkpoint"
            )
    return nats


def right_answers(asked: Asked) -> list[Continuations]:
    """Return the requests by which gold_bpb is measured, one per item."""
    return [asked.after(n, right_answer(item)) for n, item in enumerate(asked.items)]


def gold_measures(
    nats: Sequence[float], requests: Sequence[Continuations]
) -> dict[str, list[float]]:
    """Return the nats of the right answers, and the UTF-8 bytes of what they were paid for.

    That is the answer, the space before it, and the white space at the prompt's end, which is
    scored with the answer (see `yxanul.evaluate.requests`).
    """
    return {NATS: list(nats), BYTES: [float(_scored_bytes(request)) for request in requests]}


def _scored_bytes(request: Continuations) -> int:
    moved = request.context[len(request.context.rstrip()) :]
    return len(f"{moved}{request.texts[0]}".encode())
