"""A text as a few numbers, so that two texts share as many of them as they share runs of words.

The one idea: the smallest hash of a text's runs is the same for two texts with the chance of their
Jaccard similarity (Broder 1997, doi 10.1109/SEQUEN.1997.666900). So 120 such minima estimate it,
within 0.04, and 20 bands of 6 of them find a text of similarity 0.8 in 99.8 % of cases without a
comparison of all pairs. 16 bits of each minimum are enough (b-bit minwise hashing, arXiv
0910.3349). Hashes are fixed, so signatures last.
"""

from __future__ import annotations

import hashlib
import re

import numpy as np
import numpy.typing as npt

BANDS, ROWS = 20, 6
HASHES = BANDS * ROWS
SIGNATURE_BYTES = 2 * HASHES
RUN = 5
"""Words in a row that count as one thing."""

_WORD = re.compile(r"\w+")
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)
_MIX = np.uint64(0xBF58476D1CE4E5B9)
_KEYS = np.frombuffer(hashlib.shake_256(b"yxanul minhash").digest(8 * HASHES), dtype="<u8").reshape(
    HASHES, 1
)
_MOST_WORDS = 1 << 17
# Runs at once: 120 hashes of 8 bytes each, 2 MB, stay in the processor's cache.
_BLOCK = 2048

Signature = npt.NDArray[np.uint16]
_Hashes = npt.NDArray[np.uint64]


class MinHash:
    """Makes signatures; words once seen are remembered, 131,072 at most."""

    def __init__(self) -> None:
        self._words: dict[str, int] = {}

    def signature(self, text: str) -> Signature:
        """Return the signature of a text, shape (HASHES,); case and punctuation do not count.

        A text of fewer than five words is one run.
        """
        runs = np.unique(self._runs(_WORD.findall(text.lower())))
        least = np.full(HASHES, np.iinfo(np.uint64).max, dtype=np.uint64)
        for begin in range(0, len(runs), _BLOCK):
            mixed = (runs[begin : begin + _BLOCK] ^ _KEYS) * _MIX
            mixed ^= mixed >> np.uint64(32)
            np.minimum(least, (mixed * _MULTIPLIER).min(axis=1), out=least)
        least >>= np.uint64(16)
        return least.astype(np.uint16)

    def _runs(self, words: list[str]) -> _Hashes:
        """Return a hash of the run that begins at each word, (words - 4,), or of all in one."""
        if len(self._words) > _MOST_WORDS:
            self._words.clear()
        hashes = np.fromiter(map(self._hash, words), dtype=np.uint64, count=len(words))
        width = min(RUN, len(words))
        runs = np.zeros(max(1, len(words) - width + 1), dtype=np.uint64)
        for place in range(width):
            runs = runs * _MULTIPLIER + hashes[place : place + len(runs)]
            runs ^= runs >> np.uint64(29)
        return runs

    def _hash(self, word: str) -> int:
        known = self._words.get(word)
        if known is None:
            digest = hashlib.blake2b(word.encode(), digest_size=8).digest()
            known = self._words[word] = int.from_bytes(digest, "little")
        return known


def similarity(one: Signature, other: Signature) -> float:
    """Return the estimated Jaccard similarity of two texts, 0 to 1."""
    return float(np.count_nonzero(one == other)) / HASHES


def band_keys(signature: Signature) -> list[int]:
    """Return a 64-bit key for each band: equal where all its minima are."""
    rows = signature.reshape(BANDS, ROWS).astype(np.uint64)
    keys = np.arange(1, BANDS + 1, dtype=np.uint64) * _MULTIPLIER
    for row in rows.T:
        keys = (keys ^ row) * _MIX
        keys ^= keys >> np.uint64(31)
    found: list[int] = (keys * _MULTIPLIER).tolist()
    return found
