"""The list of documents that were left out, and why: OUT/<source>/dropped.jsonl, one line each.

The one idea: whoever asks why a document is not in the data finds the rule and the number that it
broke. The first thousand of each rule carry the beginning of their text, so that a rule that eats
good text is seen. What a source leaves out itself, before it is a document, is only counted.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from yxanul.data.document import Document
from yxanul.data.drop import Drop
from yxanul.data.files import regular_file
from yxanul.data.prepared.appended import AppendedFile
from yxanul.data.prepared.manifest import IndexFile, Manifest, dropped_path
from yxanul.data.strict import Fields, names, parse_json

_MOST_TEXTS = 1000
_TEXT_CHARACTERS = 300
_KEYS = names(Drop) | {"id", "url", "text"}


@dataclass(frozen=True, slots=True)
class DroppedDocument:
    """A document and the rule it broke; `text` is its beginning, None after the first thousand."""

    id: str
    url: str | None
    drop: Drop
    text: str | None


class DroppedList:
    """Counts and lists what is dropped of one source, line by line in `file`."""

    def __init__(self, file: AppendedFile, *, counts: Mapping[str, int]) -> None:
        self._file = file
        self.counts = Counter(counts)

    def append(self, document: Document, drop: Drop) -> None:
        """Add a document."""
        has_text = self.counts[drop.rule] < _MOST_TEXTS
        line = {
            "id": document.id,
            "url": document.url,
            **asdict(drop),
            "text": _printable(document.text) if has_text else None,
        }
        self._file.append(json.dumps(line, separators=(",", ":")).encode() + b"\n")
        self.counts[drop.rule] += 1

    def sync(self) -> int:
        """Put all lines on the disk; return their bytes."""
        return self._file.sync()

    def finish(self) -> IndexFile:
        """Give the file its name; return its record."""
        return self._file.finish()


def read_dropped(manifest: Manifest, root: Path, *, source: str) -> Iterator[DroppedDocument]:
    """Yield the dropped documents of a source in the order in which they were read.

    Raises `CorruptShardError` that names file and line for anything that is not as written.
    """
    manifest.source(source)
    place = regular_file(root, dropped_path(source))
    with place.open("rb") as handle:
        for number, line in enumerate(handle, start=1):
            where = f"{place} line {number}"
            fields = Fields(parse_json(line, where), where, keys=_KEYS)
            yield fields.record(DroppedDocument, drop=fields.record(Drop))


def _printable(text: str) -> str:
    """Return the beginning, without halves of surrogate pairs, which no file can hold."""
    return text[:_TEXT_CHARACTERS].encode("utf-8", "replace").decode()
