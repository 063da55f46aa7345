"""How a preparation tells in numbers how far it is, to whoever shows them."""

from __future__ import annotations

from typing import Protocol


class Watcher(Protocol):
    """Somebody who shows how far the sources are, one after the other."""

    def begin(self, what: str, *, total: int | None) -> None:
        """Hear that a source of so many documents begins; None = nobody knows how many."""

    def advance(self, count: int) -> None:
        """Hear that so many documents more are done."""
