"""An item of a benchmark: what the model is given, and what is right.

The one idea: three forms cover all tasks. How an item becomes a prompt with worked examples before
it, and how an answer is judged, is `yxanul.evaluate.tasks`; contamination is looked for in the same
texts.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class ChoiceItem:
    """A text and some endings, one of which is right."""

    id: str
    prompt: str
    choices: tuple[str, ...]
    answer: int
    """Index of the right one."""
    cluster: str | None = None
    """What it shares with other items, e.g. its paragraph; None = nothing."""


@dataclass(frozen=True)
class AnswerItem:
    """A question and its answer in words."""

    id: str
    prompt: str
    answer: str
    """The right answer's text, as it stands after the prompt, and after one space unless the prompt
    ends in white space."""
    aliases: tuple[str, ...] = ()
    """Spellings that count as right; empty = the answer alone."""
    cluster: str | None = None


@dataclass(frozen=True)
class ProgramItem:
    """The head of a function, and the tests that its body must pass."""

    id: str
    prompt: str
    solution: str
    test: str
    entry_point: str
    cluster: str | None = None


Item = ChoiceItem | AnswerItem | ProgramItem


def cluster_of(item: Item) -> str:
    """Return what an item shares with others that stand and fall together; its id where nothing."""
    return item.cluster or item.id


@dataclass(frozen=True)
class Benchmark:
    """The items of one task in their order, and those from which worked examples are drawn."""

    task: str
    items: tuple[Item, ...]
    shots: tuple[Item, ...]
    """Pool of worked examples, which may be the items themselves; empty = none were read."""
    origin: str
    """A hub id and revision, a file, or a package and its version."""

    @property
    def sha256(self) -> str:
        """Hash over the items in order."""
        text = json.dumps([asdict(item) for item in self.items], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()
