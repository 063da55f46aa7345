"""A source whose texts were treated by the tasks of a cluster."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from yxanul.data.cluster.parts import Parts
from yxanul.data.document import Document


@dataclass(frozen=True)
class JoinedSource:
    """What `prepare` asks of a source; the texts come from `parts`, treated already."""

    parts: Parts
    domain: str
    licence: str | None = "unknown (a folder of the user's)"
    attribution: str | None = None

    @property
    def version(self) -> str:
        """How many parts there are, and a hash of all."""
        return self.parts.version

    def documents(self) -> Iterator[Document]:
        """Yield the documents with the beginnings of their texts."""
        for documents, _ in self.parts.read():
            yield from documents
