"""The list of a split's documents, one JSON line each, in the order of the token stream.

The one idea: the lines say where every token came from: a document's tokens begin where the counts
of the lines before it end. The count includes the 50256 that begins each document.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path

from yxanul.data.files import TEMPORARY, regular_file
from yxanul.data.prepared.manifest import Manifest, index_path
from yxanul.data.strict import PREPARE_AGAIN, Fields, Sha256, names, parse_json
from yxanul.errors import CorruptShardError

_LINE = json.JSONEncoder(separators=(",", ":"))


@dataclass(frozen=True, slots=True)
class DocumentRecord:
    """One document: `bytes` and `sha256` are those of its cleaned text in UTF-8."""

    id: str
    url: str | None
    tokens: int
    bytes: int
    sha256: Sha256


def document_line(record: DocumentRecord) -> bytes:
    """Return the line that lists a document."""
    line = {field.name: getattr(record, field.name) for field in fields(record)}
    return _LINE.encode(line).encode() + b"\n"


def read_documents(
    manifest: Manifest, root: Path, *, source: str, split: str
) -> Iterator[tuple[int, DocumentRecord]]:
    """Yield (position of the first token in the stream, document) in stream order.

    Raises `CorruptShardError` that names file and line for anything that is not as written.
    """
    record = manifest.source(source).split(split)
    place = regular_file(root, record.index.path)
    position = 0
    with place.open("rb") as handle:
        for number, line in enumerate(handle, start=1):
            document = _document(line, f"{place} line {number}")
            yield position, document
            position += document.tokens
    if position != record.tokens:
        raise CorruptShardError(
            f"{place} counts {position:,} tokens, the manifest says {record.tokens:,}; "
            f"{PREPARE_AGAIN}."
        )


def written_digests(folder: Path, split: str, *, size: int) -> Iterator[bytes]:
    """Yield the sha256 of the documents in the first `size` bytes of a list, finished or not.

    Raises `CorruptShardError` if it holds fewer.
    """
    path = index_path(folder.name, split)
    if not (folder.parent / path).exists():
        path += TEMPORARY
    place = regular_file(folder.parent, path)
    with place.open("rb") as handle:
        number = 0
        while handle.tell() < size:
            number += 1
            yield bytes.fromhex(_document(handle.readline(), f"{place} line {number}").sha256)


def _document(line: bytes, where: str) -> DocumentRecord:
    found = Fields(parse_json(line, where), where, keys=names(DocumentRecord))
    return found.record(DocumentRecord)
