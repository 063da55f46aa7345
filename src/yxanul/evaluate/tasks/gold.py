"""What the right answers cost a model: gold_bpb, their bits per byte.

A continuous measure that moves long before a model gives its first right answer, so it gates where
accuracy cannot (docs: decisions, gates).
"""

from __future__ import annotations

from collections.abc import Sequence

from yxanul.evaluate.answers.requests import Continuations
from yxanul.evaluate.tasks.asking import Asked
from yxanul.evaluate.tasks.definitions import right_answer
from yxanul.runfolder.skill_scores import BYTES, NATS


def right_answers(asked: Asked) -> list[Continuations]:
    """Return the requests by which gold_bpb is measured, one per item."""
    return [asked.after(n, right_answer(item)) for n, item in enumerate(asked.items)]


def gold_measures(
    nats: Sequence[float], requests: Sequence[Continuations]
) -> dict[str, list[float]]:
    """Return the nats of the right answers, and the UTF-8 bytes of what they were paid for.

    That is the answer, the space before it, and the white space at the prompt's end, which is
    scored with the answer (see `yxanul.evaluate.answers.requests`).
    """
    return {NATS: list(nats), BYTES: [float(_scored_bytes(request)) for request in requests]}


def _scored_bytes(request: Continuations) -> int:
    moved = request.context[len(request.context.rstrip()) :]
    return len(f"{moved}{request.texts[0]}".encode())
