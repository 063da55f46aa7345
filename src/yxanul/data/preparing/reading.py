"""A source read in batches, each with the mark of where reading goes on after it.

The one idea: batches are treated while the next ones are read, so how far the reading came says
nothing of how far the writing came; the mark travels with the batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

from yxanul.data.bookmark import Bookmark, Mark
from yxanul.data.document import Document
from yxanul.data.treating.processes import Batch
from yxanul.errors import YxanulError

# Small enough that all cores have work to the end of a small source.
_BATCH_CHARACTERS = 1 << 20
_MOST_DOCUMENTS = 4096


class DocumentSource(Protocol):
    """What a source must offer; `yxanul.data.sources` has the real ones."""

    @property
    def domain(self) -> str:
        """The domain whose held-out text this source is scored in."""
        ...

    @property
    def licence(self) -> str | None:
        """Licence of the text; None = not stated."""
        ...

    @property
    def attribution(self) -> str | None:
        """Whom to name; None = nobody."""
        ...

    @property
    def version(self) -> str:
        """Package, release or revision that the text comes from."""
        ...

    @property
    def documents(self) -> Callable[[], Iterator[Document]]:
        """Start the documents from the beginning, in the same order every time."""
        ...


@dataclass(frozen=True, slots=True)
class ReadBatch:
    """Documents in a row; `mark` is where the next one begins (None = the source has no marks)."""

    documents: list[Document]
    mark: Mark | None


class Reading:
    """The documents of a source from its beginning, or from a mark, in batches.

    An error of the source ends the batches, after the last document that was read, and is kept.
    """

    def __init__(
        self, source: DocumentSource, *, mark: Mark | None, heard: Callable[[], None]
    ) -> None:
        """`heard` is called after every document, and may raise to stop the work."""
        self._source = source
        self._begin = mark
        self.heard = heard
        self.bookmark: Bookmark | None = getattr(source, "bookmark", None)
        self.error: YxanulError | None = None

    @property
    def mark(self) -> Mark | None:
        """Where the reading stands; None = the source has no marks."""
        return self.bookmark.mark() if self.bookmark else None

    @property
    def dropped(self) -> Mapping[str, int]:
        """What the source left out itself so far, by reason."""
        found: Mapping[str, int] = getattr(self._source, "dropped", None) or {}
        return found

    def batches(self) -> Iterator[Batch[ReadBatch]]:
        """Yield batches of about a megabyte of text."""
        batch: list[Document] = []
        characters = 0
        try:
            for document in self._documents():
                batch.append(document)
                characters += len(document.text)
                if characters >= _BATCH_CHARACTERS or len(batch) >= _MOST_DOCUMENTS:
                    yield self._batch(batch)
                    batch, characters = [], 0
                # Not before: whoever stops the work here must not lose a document that was read.
                self.heard()
        except YxanulError as error:
            self.error = error
        if batch:
            yield self._batch(batch)

    def _documents(self) -> Iterator[Document]:
        if self._begin is None or self.bookmark is None:
            return self._source.documents()
        return self.bookmark.resume(self._begin)

    def _batch(self, documents: list[Document]) -> Batch[ReadBatch]:
        return Batch([d.text for d in documents], ReadBatch(documents, self.mark))
