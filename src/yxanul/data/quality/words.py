"""spaCy's words and sentences of English text, as datatrove's filters see them, without its cost.

The one idea: spaCy's tokenizer treats every stretch between white space alone, so its words are
remembered per stretch, and those of the latest text are shared by all filters. Every decision of a
filter stays what it is with datatrove's own tokenizer, which reads each text anew for every filter
at 0.4 MB/s on one core (EPYC, Zen 4, 2026-11-27); this one gives 19 MB/s once it is warm. Needs the
extra yxanul[data].
"""

from __future__ import annotations

import re
import sys
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise

from datatrove.utils.word_tokenizers import WordTokenizer


@contextmanager
def _without(module: str) -> Iterator[None]:
    """Let imports inside the block find no such module, unless it is loaded already."""
    if module in sys.modules:
        yield
        return
    sys.modules[module] = None  # type: ignore[assignment]  # so Python writes "not to be found"
    try:
        yield
    finally:
        del sys.modules[module]


# spaCy loads torch where it is installed, 180 MB and two seconds in each process, and needs it for
# models that nobody asks for here.
with _without("torch"):
    import spacy
    from spacy.pipeline import Sentencizer

# About 30 MB; then all are forgotten, with spaCy's own strings.
_MOST_STRETCHES = 1 << 17
# spaCy takes seconds for a stretch of a megabyte, and such are not seen twice.
_LONGEST_KEPT = 64
# A stretch and the white space behind it.
_STRETCH = re.compile(r"(\S+)(\s*)")
# Where this is a token spaCy mostly breaks, as datatrove uses it, from the second time on: it reads
# memory that it gave back (explosion/spaCy issue 3669). Then datatrove takes the string out of the
# whole text; here that is done always, so no text is judged by what was read before it.
_POISON = "IS_ALPHA"


class SharedWords(WordTokenizer):  # type: ignore[misc]  # datatrove has no types
    """Stands in for datatrove's tokenizer of English."""

    def __init__(self) -> None:
        super().__init__("en")
        self._forget()
        self._ends = frozenset(Sentencizer.default_punct_chars)
        self._text: str | None = None
        self._words: list[str] = []

    def word_tokenize(self, text: str) -> list[str]:
        """Return the words; white space is none."""
        if text is not self._text:
            if len(self._known) > _MOST_STRETCHES:
                self._forget()
            words: list[str] = []
            for stretch in self.readable(text).split():
                words += self._known.get(stretch) or self._split(stretch)
            self._text, self._words = text, words
        return self._words

    def sent_tokenize(self, text: str) -> list[str]:
        """Return the sentences, without white space around them."""
        text = self.readable(text)
        starts = [0, *(end for _, end in self.span_tokenize(text))]
        parts = (text[a:b].strip() for a, b in pairwise(starts))
        return [part for part in parts if part]

    def span_tokenize(self, text: str) -> list[tuple[int, int]]:
        """Return (first, last + 1) character of each sentence, of the text as it can be read."""
        text = self.readable(text)
        begins = [0, *self._sentence_begins(text), len(text)]
        return list(pairwise(begins)) if text else []

    def readable(self, text: str) -> str:
        """Return the text as datatrove reads it."""
        if _POISON in text:
            suspects = [stretch for stretch in text.split() if _POISON in stretch]
            if any(_POISON in (self._known.get(one) or self._split(one)) for one in suspects):
                return text.replace(_POISON, "")
        return text

    def _sentence_begins(self, text: str) -> Iterator[int]:
        """Yield where a sentence begins that is not the first, by the rule of spaCy's sentencizer.

        A sentence goes on through the marks that end it and the punctuation behind them.
        """
        ended = False
        for word, begin in self._tokens(text):
            if word in self._ends:
                ended = True
            elif ended and not _is_punctuation(word):
                ended = False
                yield begin

    def _tokens(self, text: str) -> Iterator[tuple[str, int]]:
        """Yield (token, its first character); white space other than one space is a token."""
        for match in _STRETCH.finditer(text):
            begin = match.start()
            for word in self._known.get(match[1]) or self._split(match[1]):
                begin = text.index(word, begin)
                yield word, begin
                begin += len(word)
            if match[2] not in ("", " "):
                yield match[2], match.start(2)

    def _split(self, stretch: str) -> tuple[str, ...]:
        words = tuple(token.text for token in self._spacy(stretch))
        if len(stretch) <= _LONGEST_KEPT:
            self._known[stretch] = words
        return words

    def _forget(self) -> None:
        self._known: dict[str, tuple[str, ...]] = {}
        self._spacy = spacy.blank("en").tokenizer


def _is_punctuation(word: str) -> bool:
    return all(unicodedata.category(char)[0] == "P" for char in word)
