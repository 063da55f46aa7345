"""All runs of eight words of the benchmarks' items, found again in other texts.

The one idea: a run has a 64-bit hash that is computed for every place of a text at once; where the
hash is known, the words themselves are compared, so nothing is found that is not there. Longer
matches are runs that follow one another: 13 words in a row are six runs of eight.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from yxanul.data.contamination.words import NUMBER, Ids

GRAM = 8
# A table of counts is no evidence: at least half of a run must be words.
_MOST_NUMBERS = GRAM // 2
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)
_FEWEST_BITS = 16

Places = npt.NDArray[np.int64]
Hashes = npt.NDArray[np.uint64]


@dataclass(frozen=True)
class Matches:
    """Runs of a text that are runs of an item, (matches,) each."""

    position: Places
    """Index of the run's first word in the text."""
    item: Places
    offset: Places
    """Index of the run's first word in the item."""


class GramIndex:
    """The runs of many items; a run of which more than half are numbers is left out.

    An item is the ids of its words, `masks` is `Vocabulary.masks`. With `masked` all numbers are
    equal, in the items and in the texts.
    """

    def __init__(self, items: Sequence[Ids], masks: Ids, *, masked: bool) -> None:
        self._masks = masks if masked else None
        lengths = np.array([len(item) for item in items], dtype=np.int64)
        self._words = self._mapped(np.concatenate([np.empty(0, np.int32), *items]))
        self._begins = np.cumsum(lengths) - lengths
        self._item_of = np.repeat(np.arange(len(items)), lengths)
        starts = self._proper_runs(masks[self._words] == NUMBER)
        hashes = _run_hashes(self._words)[starts]
        order = np.argsort(hashes, kind="stable")
        self._starts = starts[order]
        self._keys, self._firsts, self._counts = np.unique(
            hashes[order], return_index=True, return_counts=True
        )
        # About one entry in 16 is set, so nearly all places of a text are done after one look.
        bits = max(_FEWEST_BITS, len(self._keys).bit_length() + 4)
        self._shift = np.uint64(64 - bits)
        self._sieve = np.zeros(1 << bits, dtype=np.bool_)
        self._sieve[self._keys >> self._shift] = True

    def find(self, text: Ids) -> Matches:
        """Return every run of the text (words,) that is a run of an item, exactly."""
        text = self._mapped(text)
        hashes = _run_hashes(text)
        maybe = np.flatnonzero(self._sieve[hashes >> self._shift])
        place = np.searchsorted(self._keys, hashes[maybe])
        # The sieve lets a hash beyond the last key through; it is compared with the last.
        place = np.minimum(place, len(self._keys) - 1)
        known = self._keys[place] == hashes[maybe]
        maybe, place = maybe[known], place[known]
        # One run may belong to many items: a line for each of them.
        counts = self._counts[place]
        position = np.repeat(maybe, counts)
        within = np.arange(len(position)) - np.repeat(np.cumsum(counts) - counts, counts)
        start = self._starts[np.repeat(self._firsts[place], counts) + within]
        steps = np.arange(GRAM)
        equal = text[position[:, None] + steps] == self._words[start[:, None] + steps]
        same = equal.all(axis=1)
        position, start = position[same], start[same]
        item = self._item_of[start]
        return Matches(position, item, start - self._begins[item])

    def _mapped(self, ids: Ids) -> Ids:
        return ids if self._masks is None else self._masks[ids]

    def _proper_runs(self, is_number: npt.NDArray[np.bool_]) -> Places:
        """Return where runs begin that lie within one item and are no table of numbers."""
        count = max(0, len(self._words) - GRAM + 1)
        numbers = np.concatenate([[0], np.cumsum(is_number)])
        within = self._item_of[:count] == self._item_of[GRAM - 1 :]
        wordy = numbers[GRAM:] - numbers[:count] <= _MOST_NUMBERS
        return np.flatnonzero(within & wordy)


def _run_hashes(words: Ids) -> Hashes:
    """Return the hash of the run that begins at each word, (words - 7,), empty for fewer than 8.

    By doubling: two words, then two pairs, then two fours.
    """
    hashes = _spread(words.astype(np.uint64) + np.uint64(1))
    width = 1
    while width < GRAM:
        hashes = _spread(hashes[:-width] * _MULTIPLIER + hashes[width:])
        width *= 2
    return hashes


def _spread(values: Hashes) -> Hashes:
    """Mix all bits upwards and down, so that the upper ones depend on each word."""
    values = values * _MULTIPLIER
    values ^= values >> np.uint64(32)
    return values
