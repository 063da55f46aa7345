"""How scoring tells of its progress, whoever listens."""

from __future__ import annotations

from typing import Protocol


class Watcher(Protocol):
    """Somebody who wants to see how far the scoring is."""

    def begin(self, what: str, *, total: int) -> None:
        """Hear that a piece of work of so many items begins, and that the one before is over."""

    def advance(self, count: int) -> None:
        """Hear that so many items more are done."""


class Unwatched:
    """Nobody listens."""

    def begin(self, what: str, *, total: int) -> None:
        """Take no notice."""

    def advance(self, count: int) -> None:
        """Take no notice."""


def unheeded() -> None:
    """Nobody wants to hear that the model is about to read a batch."""
