"""The list of a split's documents, one JSON line each, in the order of the token stream.

The one idea: the lines say where every token came from: a document's tokens begin where the counts
of the lines before it end. The count includes the 50256 that begins each document.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from yxanul.data.files import TEMPORARY, publish, regular_file, reopen
from yxanul.data.manifest import IndexFile, Manifest, index_path
from yxanul.data.strict import Fields, parse_json
from yxanul.errors import CorruptShardError
from yxanul.runfolder.durable import writing

_KEYS = ("id", "url", "tokens", "bytes", "sha256")


@dataclass(frozen=True, slots=True)
class DocumentRecord:
    """One document: `bytes` and `sha256` are those of its cleaned text in UTF-8."""

    id: str
    url: str | None
    tokens: int
    bytes: int
    sha256: str


class IndexWriter:
    """Writes `folder/<split>.documents.jsonl`; use it in a `with` block, and call `finish`.

    With `size`, the bytes that `sync` returned, it writes on from there.
    """

    def __init__(self, folder: Path, split: str, *, size: int = 0) -> None:
        self._path = index_path(folder.name, split)
        self._final = folder.parent / self._path
        self._temporary = self._final.with_name(self._final.name + TEMPORARY)
        with writing(self._final):
            folder.mkdir(parents=True, exist_ok=True)
        self._handle, self._digest = reopen(self._final, size)
        self._bytes = size

    def __enter__(self) -> IndexWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._handle.close()

    def append(self, record: DocumentRecord) -> None:
        """Add a line."""
        line = json.dumps(dataclasses.asdict(record), separators=(",", ":")).encode() + b"\n"
        with writing(self._final):
            self._handle.write(line)
        self._digest.update(line)
        self._bytes += len(line)

    def sync(self) -> int:
        """Put all lines on the disk; return their bytes."""
        with writing(self._final):
            self._handle.flush()
            os.fsync(self._handle.fileno())
        return self._bytes

    def finish(self) -> IndexFile:
        """Sync and rename the file, and return its record."""
        with writing(self._final):
            self._handle.flush()
            os.fsync(self._handle.fileno())
            self._handle.close()
            publish(self._temporary, self._final)
        return IndexFile(self._path, self._digest.hexdigest(), self._bytes)


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
            "prepare the data again."
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
    fields = Fields(parse_json(line, where), where, keys=_KEYS)
    return DocumentRecord(
        id=fields.text("id"),
        url=fields.optional_text("url"),
        tokens=fields.count("tokens"),
        bytes=fields.count("bytes"),
        sha256=fields.sha256("sha256"),
    )
