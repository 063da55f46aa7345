"""How long work tells how far it is: in numbers to whoever shows them, or in lines of text."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Protocol, TypeVar

from yxanul.units import format_bytes

_PROGRESS_S = 2.0
# A look at the clock for each document would be a tenth of the time that its line takes.
_LOOK_EVERY = 1000

_T = TypeVar("_T")


class Watcher(Protocol):
    """Somebody who shows how far the pieces of a work are: sources, domains, tasks."""

    def begin(self, what: str, *, total: int | None) -> None:
        """Hear that the next piece begins, of so many items; None = nobody knows how many."""

    def advance(self, count: int) -> None:
        """Hear that so many items more are done."""


class Pace:
    """Lets a line of news through about every two seconds, so that one can ask for it often."""

    def __init__(self, progress: Callable[[str], None]) -> None:
        self._progress = progress
        self._due = time.monotonic() + _PROGRESS_S

    def tell(self, line: Callable[[], str]) -> None:
        """Pass `line()` on if it is time; whatever `progress` raises goes through."""
        if time.monotonic() >= self._due:
            self._progress(line())
            self._due = time.monotonic() + _PROGRESS_S


def paced(found: Iterable[_T], what: str, *, pace: Pace, every: int = _LOOK_EVERY) -> Iterator[_T]:
    """Yield what is `found`, and tell now and then how much of it, `what` in words, was there.

    The clock is looked at once in `every` of them: 1 where one may take long.
    """
    for number, one in enumerate(found, start=1):
        if (number - 1) % every == 0:
            pace.tell(partial(f"{{:,}} {what} looked through".format, number))
        yield one


class BytesRead:
    """Tells how much of a long reading is done, about every two seconds."""

    def __init__(self, progress: Callable[[str], None], what: str, *, total: int) -> None:
        """Take what is read, in words, and the bytes that are to come."""
        self._pace = Pace(progress)
        self._what = what
        self._total = total
        self._done = 0

    def add(self, count: int) -> None:
        """Hear that so many bytes more are read; whatever `progress` raises goes through."""
        self._done += count
        self._pace.tell(self._line)

    def _line(self) -> str:
        return f"{self._what}: {format_bytes(self._done)} of {format_bytes(self._total)}"


def unheard(_: str) -> None:
    """Take news that nobody asked for."""


SILENT = Pace(unheard)
"""The pace of what nobody hears of."""
