"""Which items a stretch of training text holds, from the runs of eight words that were found.

Three rules, each within one document:
- `row`: 13 words in a row stand there too (GPT-3, arXiv 2005.14165);
- `coverage`: 70 % of the item's runs of eight do, in any order (PaLM, arXiv 2204.02311);
- `answered`: the whole question, of eight words or more, stands there, with the answer within eight
  words after it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from yxanul.data.contamination.grams import GRAM, GramIndex, Matches, Places
from yxanul.data.contamination.wanted import NUMBERS_VARY, ROW, Wanted
from yxanul.data.contamination.words import END, Ids, Vocabulary

COVERAGE = 0.7
_ROW_RUNS = ROW - GRAM + 1
_MOST_BETWEEN = 8
_END = np.array([END], dtype=np.int32)


@dataclass(frozen=True)
class Verdict:
    """An item that a document holds."""

    item: int
    """Its index among the wanted ones."""
    document: int
    """Index of the document in the text."""
    rule: str
    masked: bool
    coverage: float
    begin: int
    """First and last + 1 word of what was found, as indices into the text."""
    end: int


class Judge:
    """Finds the wanted items in texts; making one takes about a second per million words."""

    def __init__(self, wanted: Sequence[Wanted]) -> None:
        self.vocabulary = Vocabulary(item.words for item in wanted)
        """Turns the words of a text into the ids that `judge` takes."""
        self._questions = [self.vocabulary.ids(item.question) for item in wanted]
        self._answers = [self.vocabulary.ids(item.answer) for item in wanted]
        self._is_short = np.array([item.is_short for item in wanted], dtype=np.bool_)
        whole = [
            question if short else np.concatenate([question, answer])
            for question, answer, short in zip(
                self._questions, self._answers, self._is_short, strict=True
            )
        ]
        self._runs = np.array([max(1, len(words) - GRAM + 1) for words in whole], dtype=np.int64)
        varying = [
            words if item.task in NUMBERS_VARY else words[:0]
            for words, item in zip(whole, wanted, strict=True)
        ]
        masks = self.vocabulary.masks
        self._plain = GramIndex(whole, masks, masked=False)
        self._masked = GramIndex(varying, masks, masked=True)

    def judge(self, text: Ids) -> list[Verdict]:
        """Return every item that a document of the text holds, once per document.

        text (words,) holds documents with END between them.
        """
        ends = np.flatnonzero(text == END)
        found: dict[tuple[int, int], Verdict] = {}
        for index, masked in ((self._plain, False), (self._masked, True)):
            matches = index.find(text)
            if not len(matches.position):
                continue
            document = np.searchsorted(ends, matches.position)
            for verdict in self._verdicts(matches, document, text=text, masked=masked):
                found.setdefault((verdict.item, verdict.document), verdict)
        return list(found.values())

    def _verdicts(
        self, matches: Matches, document: Places, *, text: Ids, masked: bool
    ) -> Iterator[Verdict]:
        """Yield what the matches prove, the strongest rule first; document (matches,)."""
        diagonal = matches.position - matches.offset
        order = np.lexsort((matches.offset, diagonal, matches.item, document))
        groups = np.flatnonzero(_changes(document[order], matches.item[order]))
        for rows in np.split(order, groups[1:]):
            if self._is_short[matches.item[rows[0]]]:
                yield from self._answered(matches, rows, text=text, document=document)
                continue
            offsets, positions = matches.offset[rows], matches.position[rows]
            item = int(matches.item[rows[0]])
            coverage = len(np.unique(offsets)) / int(self._runs[item])
            begin, length = _longest(positions, offsets)
            if length < _ROW_RUNS and coverage < COVERAGE:
                # A question under 13 words, and its answer after other words, such as "Answer:".
                yield from self._answered(matches, rows, text=text, document=document)
                continue
            in_a_row = length >= _ROW_RUNS
            end = begin + length if in_a_row else int(positions.max()) + 1
            yield Verdict(
                item=item,
                document=int(document[rows[0]]),
                rule="row" if in_a_row else "coverage",
                masked=masked,
                coverage=coverage,
                begin=begin if in_a_row else int(positions.min()),
                end=end + GRAM - 1,
            )

    def _answered(
        self, matches: Matches, rows: Places, *, text: Ids, document: Places
    ) -> Iterator[Verdict]:
        """Yield the item if one of its questions in the document has its answer after it."""
        item = int(matches.item[rows[0]])
        question, answer = self._questions[item], self._answers[item]
        for begin in matches.position[rows[matches.offset[rows] == 0]].tolist():
            end = begin + len(question)
            after = text[end : end + _MOST_BETWEEN + len(answer)]
            place = _find(after[: _find(after, _END)], answer)
            if np.array_equal(text[begin:end], question) and place is not None:
                yield Verdict(
                    item=item,
                    document=int(document[rows[0]]),
                    rule="answered",
                    masked=False,
                    coverage=1.0,
                    begin=begin,
                    end=end + place + len(answer),
                )
                return


def _changes(*columns: Places) -> Places:
    """Return 1 where a row differs from the one before it, also for the first row."""
    differs = np.ones(len(columns[0]), dtype=np.int64)
    differs[1:] = np.any([column[1:] != column[:-1] for column in columns], axis=0)
    return differs


def _longest(positions: Places, offsets: Places) -> tuple[int, int]:
    """Return (position of the first, number) of the runs that longest follow one another.

    Rows are sorted by diagonal and offset.
    """
    follows = (np.diff(positions) == 1) & (np.diff(offsets) == 1)
    starts = np.flatnonzero(np.concatenate([[True], ~follows]))
    lengths = np.diff(np.concatenate([starts, [len(positions)]]))
    best = int(lengths.argmax())
    return int(positions[starts[best]]), int(lengths[best])


def _find(words: Ids, wanted: Ids) -> int | None:
    """Return where `wanted` begins in `words`, None if nowhere; an empty answer is nowhere."""
    for start in range(len(words) - len(wanted) + 1 if len(wanted) else 0):
        if np.array_equal(words[start : start + len(wanted)], wanted):
            return start
    return None
