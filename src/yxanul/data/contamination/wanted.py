"""An item of a benchmark as something to look for: the words of its question and of its answer."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from yxanul.data.contamination.grams import GRAM
from yxanul.data.contamination.words import split_words
from yxanul.data.items import AnswerItem, Benchmark, ChoiceItem, Item

ROW = 13
"""Words in a row that make an item dirty (GPT-3's rule, arXiv 2005.14165)."""
NUMBERS_VARY = frozenset({"gsm8k", "gsm_symbolic"})
"""Tasks whose problems come in variants that differ in their numbers: looked for masked, too."""

# A prompt's own labels are no part of the question.
_LABELS = re.compile(r"^\s*Question:|(?:Answer|Reasoning):\s*$")


@dataclass(frozen=True)
class Wanted:
    """The words of an item."""

    task: str
    id: str
    question: tuple[str, ...]
    answer: tuple[str, ...]
    """Of the right answer; the tests of a program are no part of it."""

    @property
    def words(self) -> tuple[str, ...]:
        """Question and answer in a row."""
        return self.question + self.answer

    @property
    def is_short(self) -> bool:
        """Whether the item has no run of 13 words, so that question and answer must both be found.

        A short question alone is asked in many places and proves nothing.
        """
        return len(self.words) < ROW

    @property
    def is_too_short(self) -> bool:
        """Whether nothing can be said of the item."""
        return self.is_short and len(self.question) < GRAM


def wanted_items(benchmarks: Iterable[Benchmark]) -> list[Wanted]:
    """Return the items of all benchmarks in order."""
    return [
        Wanted(benchmark.task, item.id, *(tuple(split_words(text)) for text in _texts(item)))
        for benchmark in benchmarks
        for item in benchmark.items
    ]


def _texts(item: Item) -> tuple[str, str]:
    """Return question and right answer."""
    if isinstance(item, ChoiceItem):
        return item.prompt, item.choices[item.answer]
    if isinstance(item, AnswerItem):
        return _LABELS.sub("", item.prompt), item.answer
    return item.prompt, item.solution
