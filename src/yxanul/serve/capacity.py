"""How many texts are written at once: as many as there is memory for their keys and values.

It is taken when the first text comes, on a CPU as columns are written; that it is not there must be
known before a server says that it serves.
"""

from collections.abc import Callable

from yxanul.errors import UsageError
from yxanul.hardware.device import free_bytes
from yxanul.model.decoding import Decoder
from yxanul.plan.memory import CARD_SHARE
from yxanul.serve.rows import reading_bytes, row_bytes
from yxanul.units import format_bytes

USUAL_BATCH = 16
"""Texts that are written at once where nothing else is asked for and memory has room."""


def settle_batch(model: Decoder, asked: int | None, *, tell: Callable[[str], None]) -> int:
    """Return how many texts are written at once: `asked` of them, or the usual number.

    Of the usual number there are fewer where memory has no room, which is told. What was asked for
    and has none is a `UsageError`, and so is a model of whose texts not even one has.
    """
    batch = USUAL_BATCH if asked is None else asked
    row, room = row_bytes(model), _room(model)
    fitting = room // row
    if batch <= fitting:
        return batch
    told = (
        f"{batch:,} texts at once need {format_bytes(batch * row)} of memory for keys and values, "
        f"{format_bytes(row)} each, and {format_bytes(room)} can be had"
    )
    if fitting == 0:
        raise UsageError(
            f"{told}, too little for one: end what else takes memory there, or take more of it"
        )
    if asked is not None:
        raise UsageError(f"{told}: --batch {fitting} would fit")
    tell(f"{told}: {fitting:,} are written at once")
    return fitting


def _room(model: Decoder) -> int:
    """Return the bytes that the rows' keys and values may take."""
    free = free_bytes(model.device)
    if model.device.type != "cuda":
        return free
    # What else is computed on a card needs a part of what is free, as in training.
    return max(0, round(CARD_SHARE * free) - reading_bytes(model))
