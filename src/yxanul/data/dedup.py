"""Exact deduplication in a few bytes per document.

The one idea: remember 64 bits of each text's sha256 in one flat table, 8 bytes a slot and at most
two thirds full, so that a hundred million documents take about 2 GiB (a Python set of digests
takes 10). Two different texts share 64 bits with a chance of about n*n / 2**65: 3e-4 for a hundred
million documents; then one document too many is dropped, which harms nothing. Near duplicates
are not found here.
"""

from __future__ import annotations

from array import array

_FIRST_SLOTS = 1 << 10


class SeenTexts:
    """A growing set of texts, known by their sha256."""

    def __init__(self) -> None:
        self._table = array("Q", bytes(8 * _FIRST_SLOTS))
        self._count = 0

    def __len__(self) -> int:
        """Return the number of different texts."""
        return self._count

    def __contains__(self, digest: bytes) -> bool:
        """Return whether a text is remembered, by its sha256 (32 bytes)."""
        key = _key(digest)
        return self._table[_slot(self._table, key)] == key

    def add(self, digest: bytes) -> bool:
        """Remember a text by its sha256 (32 bytes); return True if it is new."""
        if not _insert(self._table, _key(digest)):
            return False
        self._count += 1
        if 3 * self._count > 2 * len(self._table):
            self._grow()
        return True

    def _grow(self) -> None:
        larger = array("Q", bytes(16 * len(self._table)))
        for key in self._table:
            if key:
                _insert(larger, key)
        self._table = larger


def _key(digest: bytes) -> int:
    # 0 marks a free slot, so the one digest that begins with eight zero bytes becomes 1.
    return int.from_bytes(digest[:8], "little") or 1


def _slot(table: array[int], key: int) -> int:
    """Return where `key` is, or else the first free slot from its own on."""
    mask = len(table) - 1  # the length is a power of two
    slot = key & mask
    while table[slot] not in (0, key):
        slot = (slot + 1) & mask
    return slot


def _insert(table: array[int], key: int) -> bool:
    """Put `key` into its slot; return False if it is there already."""
    slot = _slot(table, key)
    if table[slot]:
        return False
    table[slot] = key
    return True
