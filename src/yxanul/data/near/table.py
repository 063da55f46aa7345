"""All signatures seen so far, and which of them a new one is near to.

The one idea: a band's key leads to the first text that had it, in 8 bytes a slot and at most two
thirds full: about 240 bytes of memory a text. The signatures lie in a file without a name, which
goes with the process, and are read for candidates alone.
"""

from __future__ import annotations

import os
import tempfile
from array import array
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

import numpy as np

from yxanul.data.near.minhash import SIGNATURE_BYTES, Signature, band_keys, similarity
from yxanul.runfolder.durable import writing

_DIGEST_BYTES = 8
_ROW_BYTES = SIGNATURE_BYTES + _DIGEST_BYTES
_FIRST_SLOTS = 1 << 12
_LOWER = (1 << 32) - 1


@dataclass(frozen=True, slots=True)
class Near:
    """An earlier text: the beginning of its sha256, and how similar it is (0 to 1)."""

    digest: bytes
    similarity: float


class NearTexts:
    """A growing set of signatures; of texts with one band the first counts.

    Use it in a `with` block, which closes its file.
    """

    def __init__(self, folder: Path) -> None:
        """Keep the signatures in a nameless file in `folder`."""
        self._folder = folder
        self._table = array("Q", bytes(8 * _FIRST_SLOTS))
        self._used = 0
        self._count = 0
        self._file: BinaryIO | None = None

    def __enter__(self) -> NearTexts:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._file is not None:
            self._file.close()

    def __len__(self) -> int:
        """Return the number of texts."""
        return self._count

    def nearest(self, signature: Signature, *, least: float) -> Near | None:
        """Return the most similar text that shares a band, of a similarity of at least `least`."""
        candidates = {number for key in band_keys(signature) if (number := self._get(key)) >= 0}
        rows = map(self._read, sorted(candidates))
        found = [Near(digest, similarity(signature, other)) for other, digest in rows]
        best = max(found, key=lambda near: near.similarity, default=None)
        return best if best is not None and best.similarity >= least else None

    def add(self, signature: Signature, digest: bytes) -> None:
        """Remember a text by its signature and its sha256; raises `DiskError` for a full disk."""
        row = signature.tobytes() + digest[:_DIGEST_BYTES]
        with writing(self._folder):
            if self._file is None:
                self._file = tempfile.TemporaryFile(dir=self._folder)  # noqa: SIM115  (see class)
            os.pwrite(self._file.fileno(), row, self._count * _ROW_BYTES)
        for key in band_keys(signature):
            self._used += _insert(self._table, _entry(key, self._count))
            if 3 * self._used > 2 * len(self._table):
                self._grow()
        self._count += 1

    def _read(self, number: int) -> tuple[Signature, bytes]:
        assert self._file is not None  # a number comes from `add`
        row = os.pread(self._file.fileno(), _ROW_BYTES, number * _ROW_BYTES)
        return np.frombuffer(row[:SIGNATURE_BYTES], dtype=np.uint16), row[SIGNATURE_BYTES:]

    def _get(self, key: int) -> int:
        """Return the first text with this band, -1 = none."""
        entry = self._table[_slot(self._table, _entry(key, 0))]
        return (entry & _LOWER) - 1

    def _grow(self) -> None:
        larger = array("Q", bytes(16 * len(self._table)))
        for entry in self._table:
            if entry:
                _insert(larger, entry)
        self._table = larger


def _entry(key: int, number: int) -> int:
    # The upper half tells bands apart, the lower is the text's number + 1: 0 marks a free slot.
    return (key >> 32 << 32) | (number + 1)


def _slot(table: array[int], entry: int) -> int:
    """Return where the band of `entry` is, or else the first free slot from its own on."""
    mask = len(table) - 1  # the length is a power of two
    band = entry >> 32
    slot = (band * 0x9E3779B1) & mask
    while table[slot] and table[slot] >> 32 != band:
        slot = (slot + 1) & mask
    return slot


def _insert(table: array[int], entry: int) -> int:
    """Put an entry into its slot unless its band is there; return how many slots that took."""
    slot = _slot(table, entry)
    if table[slot]:
        return 0
    table[slot] = entry
    return 1
