"""A section of the card's table: a question, and rows that are printed as they are measured.

A row is begun if it should end in time, by how long it took when it was measured last.
"""

from __future__ import annotations

import gc
import json
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import torch

from benchmarks.keeping import recompiled
from yxanul.errors import first_line
from yxanul.model.flash import use_version

RECOMPILED = "recompiled"
"""The column of graphs that were made after a row's first update."""
_UNKNOWN_S = {"off": 15.0, "block": 15.0, "model": 75.0}  # whole updates, with what they compile
Row = dict[str, Any]
Work = Callable[[], Row]
"""Measures one row; the columns that name it are known before."""


@dataclass(frozen=True)
class Section:
    """A question and the rows that answer it, each (its naming columns, its work)."""

    name: str
    question: str
    rows: Callable[[], Iterator[tuple[Row, Work]]]


@dataclass(frozen=True)
class Conditions:
    """What all rows of a table have in common; the defaults are what old results do not tell."""

    shape: str = "flagship"
    compile: str = "block"

    @classmethod
    def of(cls, section: dict[str, Any]) -> Conditions:
        """Return those under which a section of results was measured."""
        return cls(**{name: section[name] for name in ("shape", "compile") if name in section})


class History:
    """How long rows took when they were measured last, by other results of these conditions."""

    def __init__(self, folder: Path, conditions: Conditions) -> None:
        """Read the results that lie in a folder, DATE-DEVICE.json; other files there are left."""
        self.conditions = conditions
        self._found: list[tuple[str, str, Row]] = []
        for path in folder.glob("*.json"):
            content = json.loads(path.read_text(encoding="utf-8"))
            sections = content if isinstance(content, list) else ()
            for section in (one for one in sections if Conditions.of(one) == conditions):
                rows = (row for row in section.get("rows", ()) if _was_measured(row))
                self._found += [(path.name[: len("2026-01-01")], section["name"], r) for r in rows]

    def expected_s(self, section: str, named: Row) -> float:
        """Return the seconds of a row, on the slowest card of the newest day that has it.

        A row that was never measured takes what half of its section's do.
        """
        there = [(day, row) for day, name, row in self._found if name == section]
        same = [(day, row) for day, row in there if named.items() <= row.items()]
        if same:
            newest = max(day for day, _ in same)
            return float(max(row["took_s"] for day, row in same if day == newest))
        if there:
            return float(median(row["took_s"] for _, row in there))
        return _UNKNOWN_S[self.conditions.compile]


def _was_measured(row: Row) -> bool:
    return "took_s" in row and not row.keys() & {"failed", "not measured"}


@dataclass
class Report:
    """What was measured until now, against a deadline."""

    deadline: float
    """time.monotonic() by which every row should have ended."""
    history: History
    sections: list[dict[str, Any]] = field(default_factory=list)
    keep: Callable[[], None] = lambda: None
    """Writes down what was measured until now; called after every row."""
    gone: str | None = None
    """Why nothing more can be measured in this process; None: it can."""

    def measure(self, section: Section) -> None:
        """Measure a section's rows and print them; one that fails or comes too late says so."""
        rows: list[Row] = []
        head = {"name": section.name, "question": section.question}
        self.sections.append(head | asdict(self.history.conditions) | {"rows": rows})
        print(f"\n## {section.name}\n\n{section.question}\n", flush=True)
        columns: list[str] = []
        for named, work in section.rows():
            if self.gone is not None:
                return
            begin = time.monotonic()
            row = named | self._try(work, self.history.expected_s(section.name, named))
            row["took_s"] = round(time.monotonic() - begin, 1)
            rows.append(row)
            if list(row) != columns:
                columns = list(row)
                print(f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}")
            print(f"| {' | '.join(_written(row[name]) for name in columns)} |", flush=True)
            self.keep()

    def faults(self) -> list[str]:
        """Return a sentence for what must not be: a dead card, no measured row, new graphs."""
        found = [] if self.gone is None else [self.gone]
        if not any(_was_measured(row) for section in self.sections for row in section["rows"]):
            found.append("nothing was measured; every row says why")
        again = [
            section["name"]
            for section in self.sections
            if any(row.get(RECOMPILED) for row in section["rows"])
        ]
        if again:
            found.append(recompiled(again))
        return found

    def _try(self, work: Work, expected_s: float) -> Row:
        left = self.deadline - time.monotonic()
        if expected_s > left:
            return {"not measured": f"about {expected_s:.0f} s, and {max(0, left):.0f} s were left"}
        try:
            return work()
        except Exception as error:  # noqa: BLE001  (it is the row: other rows are worth their time)
            traceback.print_exc()
            told = [type(error).__name__, *str(error).splitlines()[:1]]  # some have no message
            return {"failed": ": ".join(told)[:140]}
        finally:
            self._forget()

    def _forget(self) -> None:
        try:
            forget()
        except RuntimeError as error:  # an error of the card's stays with its process
            self.gone = (
                "the card answers no more after the last row, and later ones were not begun: "
                f"{first_line(error)}; measure theirs in a new process, with --sections"
            )


def forget() -> None:
    """Free what a row held, and the graphs it compiled, so that rows do not touch each other."""
    torch.compiler.reset()
    use_version(2)  # or peers would be timed with the other version of FlashAttention
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _written(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:,.3g}" if abs(value) < 1000 else f"{value:,.0f}"
    return f"{value:,}" if isinstance(value, int) else str(value)
