"""Signatures on disk: OUT/<source>/<split>.signatures.bin, a row per document of the split.

The one idea: a row carries the document's number in its source, so that both splits can be read
back in the order in which they were written.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from yxanul.data.duplicates.minhash import SIGNATURE_BYTES, Signature
from yxanul.data.files import TEMPORARY, regular_file
from yxanul.data.prepared.manifest import signatures_path
from yxanul.data.strict import PREPARE_AGAIN
from yxanul.errors import CorruptShardError

_NUMBER_BYTES = 8
_ROW_BYTES = _NUMBER_BYTES + SIGNATURE_BYTES


def signature_row(signature: Signature, number: int) -> bytes:
    """Return the row of a document, the `number`-th of its source from 0."""
    return number.to_bytes(_NUMBER_BYTES, "little") + signature.astype("<u2").tobytes()


def written_signatures(
    folder: Path, digests: Mapping[str, Iterator[bytes]]
) -> Iterator[tuple[Signature, bytes]]:
    """Yield (signature, sha256) of a source's documents in the order they were written in.

    `digests` is {split: sha256 of each of its documents}; a file may be finished or not, and be
    longer than them. Raises `CorruptShardError` if one is shorter.
    """
    sides = [_rows(folder, split, digests=found) for split, found in digests.items()]
    for _, signature, digest in heapq.merge(*sides, key=lambda row: row[0]):
        yield signature, digest


def _rows(
    folder: Path, split: str, *, digests: Iterator[bytes]
) -> Iterator[tuple[int, Signature, bytes]]:
    path = signatures_path(folder.name, split)
    if not (folder.parent / path).exists():
        path += TEMPORARY
    place = regular_file(folder.parent, path)
    with place.open("rb") as handle:
        for digest in digests:
            row = handle.read(_ROW_BYTES)
            if len(row) < _ROW_BYTES:
                raise CorruptShardError(
                    f"{place} is shorter than the list of documents; {PREPARE_AGAIN}."
                )
            number = int.from_bytes(row[:_NUMBER_BYTES], "little")
            yield number, np.frombuffer(row[_NUMBER_BYTES:], dtype="<u2"), digest
