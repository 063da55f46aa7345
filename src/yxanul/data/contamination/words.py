"""Texts as words, in the form in which two copies of a text agree.

NFKC, lower case, no punctuation: an apostrophe joins (don't is dont), anything else separates. A
number is one word, whatever separators it has, and can be masked: problems of one template differ
in their numbers alone.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

DOCUMENT_END = "\x1e"
"""A word that no text holds: `yxanul.data.treating.clean` removes the character."""
UNKNOWN, END, NUMBER = 0, 1, 2
"""Ids of all words that no item has, of DOCUMENT_END, and of all numbers that no item has."""

_WORD = re.compile(rf"\d+(?:[.,]\d+)*|[^\W\d_]+|{DOCUMENT_END}")
_LARGEST_MEMORY = 1 << 20

Ids = npt.NDArray[np.int32]


def split_words(text: str) -> list[str]:
    """Return the words of a text in their normal form; numbers keep their separators."""
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text).replace("’", "")
    return _WORD.findall(text.lower().replace("'", ""))


class Vocabulary(dict[str, int]):
    """The words of the benchmarks' items; every other word is UNKNOWN or NUMBER.

    Words once seen are remembered, a million at most.
    """

    def __init__(self, texts: Iterable[Sequence[str]]) -> None:
        super().__init__({DOCUMENT_END: END})
        for word in (_plain(word) for text in texts for word in text):
            self.setdefault(word, len(self) + 2)
        self.masks = np.arange(len(self) + 2, dtype=np.int32)
        """Id of each word -> the same, but NUMBER for each number, shape (ids,)."""
        for word, number in self.items():
            if word[0].isdigit():
                self.masks[number] = NUMBER

    def __missing__(self, word: str) -> int:
        known = self.get(_plain(word), NUMBER if word[0].isdigit() else UNKNOWN)
        if len(self) < _LARGEST_MEMORY:
            self[word] = known
        return known

    def ids(self, words: Sequence[str]) -> Ids:
        """Return the id of each word, shape (words,)."""
        return np.fromiter(map(self.__getitem__, words), dtype=np.int32, count=len(words))


def _plain(word: str) -> str:
    """Return a number without the commas between its digits."""
    return word.replace(",", "")
