"""Problems of reasoning-gym as texts: question, worked steps, verified answer.

The one idea: a renderer solves the problem itself, from the facts in the item, and writes down the
steps of that solution; the family's own scorer then judges the answer. An item on which the two
disagree is dropped and counted, never printed. So a trace is true twice: its steps lead to its
answer, and the library accepts that answer.

Document i is a pure function of (seed, i): every family has its own seed, derived from the run's
seed and its name, and gives its items by index. Nothing here uses Python's own `hash`.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from yxanul.data.document import Document
from yxanul.data.sources.packages import missing_extra

Item = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Trace:
    """A worked problem; `answer` is exactly what the family's scorer judges."""

    question: str
    steps: str
    answer: str

    def text(self) -> str:
        """Return the trace as plain text with its borders marked by three words."""
        return f"Question: {self.question}\n\nReasoning:\n{self.steps}\n\nAnswer: {self.answer}"


class Phrasing:
    """Choices among wordings, the same ones every time for the same key."""

    def __init__(self, key: str) -> None:
        self._state = int.from_bytes(hashlib.sha256(key.encode()).digest(), "big")

    def pick(self, *options: str) -> str:
        """Return one of `options`; each call uses up part of the key's 256 bits."""
        self._state, index = divmod(self._state, len(options))
        return options[index]


Renderer = Callable[[Item, Phrasing], Trace | None]


@dataclass(frozen=True, slots=True)
class Family:
    """How to write one family's traces, and the settings its items are generated with.

    `render` returns None for an item that it cannot solve soundly.
    """

    render: Renderer
    settings: Mapping[str, Any] = field(default_factory=dict)


def trace_documents(
    families: Mapping[str, Family], *, source: str, seed: int, count: int, dropped: Counter[str]
) -> Iterator[Document]:
    """Yield about `count` traces, the families in turn; fewer by what `dropped` counts.

    Ids are `source/family/index`. The split key holds the facts of the problem without its wording.
    Raises MissingExtraError when reasoning-gym is not installed.
    """
    names = list(families)
    per_family = -(-count // len(names))
    datasets = {
        name: open_family(name, seed=seed, size=per_family, settings=families[name].settings)
        for name in names
    }
    for i in range(count):
        index, turn = divmod(i, len(names))
        name = names[turn]
        item = _generate(datasets[name], index)
        if item is None:
            dropped[f"{name}: not generated"] += 1
            continue
        trace = families[name].render(item, Phrasing(f"{seed}/{name}/{index}"))
        if trace is None:
            dropped[f"{name}: not solved"] += 1
            continue
        if not is_verified(trace, item, dataset=datasets[name]):
            dropped[f"{name}: not verified"] += 1
            continue
        yield Document(
            text=trace.text(),
            source=source,
            id=f"{source}/{name}/{index}",
            split_key=f"{name}/{_facts(item)}",
        )


def open_family(name: str, *, seed: int, size: int, settings: Mapping[str, Any]) -> Any:
    """Return reasoning-gym's data set `name`, seeded by the run's seed and the family's name."""
    try:
        import reasoning_gym  # an optional extra, and slow to import
    except ImportError as error:
        raise missing_extra("reasoning-gym", "Apache-2.0") from error
    own_seed = int.from_bytes(hashlib.sha256(f"{seed}/{name}".encode()).digest()[:4], "big")
    return reasoning_gym.create_dataset(name, seed=own_seed, size=size, **settings)


def is_verified(trace: Trace, item: Item, *, dataset: Any) -> bool:
    """Return whether the family's own scorer gives the trace's answer full marks."""
    return bool(dataset.score_answer(trace.answer, item) == 1.0)


def _generate(dataset: Any, index: int) -> Item | None:
    """Return an item; None where the library gives up (a maze without a fitting goal)."""
    try:
        item: Item = dataset[index]
    except RuntimeError:
        return None
    return item


def _facts(item: Item) -> str:
    """Return a short hash of the item's own facts: equal for two wordings of one problem."""
    facts = {
        key: value
        for key, value in item["metadata"].items()
        if key not in ("source_index", "difficulty")
    }
    written = json.dumps(facts, sort_keys=True, default=str)
    return hashlib.sha256(written.encode()).hexdigest()[:16]
