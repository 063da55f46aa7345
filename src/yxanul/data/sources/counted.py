"""A bookmark for a source that is cheap to read again: it goes on after so many documents."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice

from yxanul.data.bookmark import Bookmark, Mark
from yxanul.data.document import Document
from yxanul.data.strict import Fields


class CountedReading:
    """Counts the documents of the latest reading of a source."""

    def __init__(self, read: Callable[[], Iterator[Document]], *, name: str) -> None:
        """`read` starts a reading, with the same documents every time."""
        self._read = read
        self._name = name
        self._count = 0

    def documents(self) -> Iterator[Document]:
        """Read from the beginning."""
        return self._from(0)

    def bookmark(self) -> Bookmark:
        """Return what a source offers that can be read on."""
        return Bookmark("counted", mark=self._mark, resume=self._resume)

    def _mark(self) -> Mark:
        return {"documents": self._count}

    def _resume(self, mark: Mark) -> Iterator[Document]:
        fields = Fields(mark, f"the mark of {self._name}", keys=("documents",))
        return self._from(fields.count("documents"))

    def _from(self, count: int) -> Iterator[Document]:
        self._count = count
        for document in islice(self._read(), count, None):
            self._count += 1
            yield document
