"""The texts that are written so far: which one is among them, and which one is near to one of them.

The one idea: all that is remembered of a text lies in a SQLite database on the disk, of which
some 16 MiB are held in memory, so memory does not grow with the input. The database is without a
name and goes with the process; what it held is read again from the lists of documents.

A text is known by 64 bits of its sha256. Two different texts share them with a chance of about
n*n / 2**65: 3e-4 for a hundred million documents; then one document too many is dropped, which
harms nothing.
"""

from __future__ import annotations

import errno
import json
import os
import sqlite3
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from yxanul.data.duplicates.minhash import Signature, band_keys, similarity
from yxanul.runfolder.durable import disk_error, writing

_DIGEST_BYTES = 8
_CACHE_KIB = 16 << 10
# Nothing is ever read from it after a crash, so no journal and no syncs: SQLite only pages.
_SCHEMA = """
PRAGMA journal_mode = OFF;
PRAGMA synchronous = OFF;
PRAGMA locking_mode = EXCLUSIVE;
CREATE TABLE texts (digest INTEGER PRIMARY KEY);
CREATE TABLE signatures (number INTEGER PRIMARY KEY, signature BLOB, digest BLOB);
CREATE TABLE bands (key INTEGER PRIMARY KEY, number INTEGER);
BEGIN;
"""
_CANDIDATES = """
SELECT signature, digest FROM signatures WHERE number IN
(SELECT number FROM bands WHERE key IN (SELECT value FROM json_each(?))) ORDER BY number
"""
_HALF = 1 << 63


@dataclass(frozen=True, slots=True)
class Near:
    """An earlier text: the beginning of its sha256, and how similar it is (0 to 1)."""

    digest: bytes
    similarity: float


class KnownTexts:
    """A growing set of texts, and of signatures; use it in a `with` block, which ends it.

    All methods raise `DiskError` if the disk is full.
    """

    def __init__(self, folder: Path, *, cache_kib: int = _CACHE_KIB) -> None:
        """Keep the database in `folder`, which need not be there before the first text.

        `cache_kib` KiB of it are held in memory.
        """
        self._folder = folder
        self._cache_kib = cache_kib
        self._texts = self._signatures = 0

    def __enter__(self) -> KnownTexts:
        return self

    def __exit__(self, *_: object) -> None:
        if "_database" in self.__dict__:
            self._database.close()

    @property
    def texts(self) -> int:
        """How many different texts are known."""
        return self._texts

    @property
    def signatures(self) -> int:
        """How many of them can be compared with others."""
        return self._signatures

    def __contains__(self, digest: bytes) -> bool:
        """Return whether a text is known, by its sha256 (32 bytes)."""
        found = self._rows("SELECT 1 FROM texts WHERE digest = ?", _digest_key(digest))
        return bool(found)

    def add(self, digest: bytes) -> bool:
        """Remember a text by its sha256 (32 bytes); return True if it is new."""
        with _disk_errors(self._folder):
            insert = "INSERT OR IGNORE INTO texts VALUES (?)"
            is_new = self._database.execute(insert, [_digest_key(digest)]).rowcount == 1
        self._texts += is_new
        return is_new

    def nearest(self, signature: Signature, *, least: float) -> Near | None:
        """Return the most similar text that shares a band, of a similarity of at least `least`."""
        rows = self._rows(_CANDIDATES, json.dumps(_signed(band_keys(signature))))
        found = [
            Near(digest, similarity(signature, np.frombuffer(other, dtype="<u2")))
            for other, digest in rows
        ]
        best = max(found, key=lambda near: near.similarity, default=None)
        return best if best is not None and best.similarity >= least else None

    def sign(self, signature: Signature, digest: bytes) -> None:
        """Remember a text's signature and the beginning of its sha256.

        Of texts with one band the first is the one that later ones are compared with.
        """
        number = self._signatures
        row = (number, signature.astype("<u2").tobytes(), digest[:_DIGEST_BYTES])
        bands = [(key, number) for key in _signed(band_keys(signature))]
        with _disk_errors(self._folder):
            self._database.execute("INSERT INTO signatures VALUES (?, ?, ?)", row)
            self._database.executemany("INSERT OR IGNORE INTO bands VALUES (?, ?)", bands)
        self._signatures += 1

    def _rows(self, query: str, value: int | str) -> list[tuple[bytes, bytes]]:
        with _disk_errors(self._folder):
            return self._database.execute(query, [value]).fetchall()

    @cached_property
    def _database(self) -> sqlite3.Connection:
        with writing(self._folder):
            handle, name = tempfile.mkstemp(prefix=".known-texts-", dir=self._folder)
            os.close(handle)
            try:
                database = sqlite3.connect(name, isolation_level=None)
            finally:
                Path(name).unlink()
        with _disk_errors(self._folder):
            database.execute(f"PRAGMA cache_size = -{self._cache_kib:d}")
            database.executescript(_SCHEMA)
        return database


def _digest_key(digest: bytes) -> int:
    return int.from_bytes(digest[:_DIGEST_BYTES], "little", signed=True)


def _signed(keys: Sequence[int]) -> list[int]:
    # SQLite's integers have a sign.
    return [key - _HALF for key in keys]


@contextmanager
def _disk_errors(folder: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.OperationalError as error:
        # SQLite's words: its codes are told from Python 3.11 on.
        is_full = str(error) == "database or disk is full"
        number = errno.ENOSPC if is_full else errno.EIO
        raise disk_error(OSError(number, str(error)), folder) from error
