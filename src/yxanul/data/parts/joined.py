"""A source whose texts were treated by the tasks of a cluster."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from yxanul.data.document import Document
from yxanul.data.parts.files import Parts


@dataclass(frozen=True)
class JoinedSource:
    """What `prepare` asks of a source; the texts come from `parts`, treated already."""

    parts: Parts
    domain: str

    @property
    def licence(self) -> str:
        """What the tasks' configuration says."""
        return self.parts.provenance.licence or "unknown (texts that the tasks of a cluster read)"

    @property
    def attribution(self) -> str | None:
        """What the tasks' configuration says."""
        return self.parts.provenance.attribution

    @property
    def dropped(self) -> Mapping[str, int]:
        """Rows that gave no text, by reason."""
        return self.parts.left_out

    @property
    def version(self) -> str:
        """How many parts there are, and a hash of all."""
        return self.parts.version

    @property
    def most(self) -> int:
        """Texts of all tasks."""
        return self.parts.documents

    def documents(self) -> Iterator[Document]:
        """Yield the documents with the beginnings of their texts."""
        for documents, _ in self.parts.read():
            yield from documents
