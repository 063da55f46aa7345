"""A section of the card's table: a question, and rows that are printed as they are measured."""

from __future__ import annotations

import gc
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch

from yxanul.model.flash import use_version

RECOMPILED = "recompiled"
"""The column of graphs that were made after a row's first update."""
Row = dict[str, Any]
Work = Callable[[], Row]
"""Measures one row; the columns that name it are known before."""


@dataclass(frozen=True)
class Section:
    """A question and the rows that answer it, each (its naming columns, its work)."""

    name: str
    question: str
    rows: Callable[[], Iterator[tuple[Row, Work]]]


@dataclass
class Report:
    """What was measured until now, against a deadline."""

    deadline: float
    """time.monotonic() after which no row is begun."""
    sections: list[dict[str, Any]] = field(default_factory=list)

    def measure(self, section: Section) -> None:
        """Measure a section's rows and print them; one that fails or comes too late says so."""
        rows: list[Row] = []
        self.sections.append({"name": section.name, "question": section.question, "rows": rows})
        print(f"\n## {section.name}\n\n{section.question}\n", flush=True)
        columns: list[str] = []
        for named, work in section.rows():
            begin = time.monotonic()
            row = named | self._try(work)
            row["took_s"] = round(time.monotonic() - begin, 1)
            rows.append(row)
            if list(row) != columns:
                columns = list(row)
                print(f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}")
            print(f"| {' | '.join(_written(row[name]) for name in columns)} |", flush=True)

    def recompiled(self) -> list[str]:
        """Return the sections in which a row compiled again what it had compiled."""
        return [
            section["name"]
            for section in self.sections
            if any(row.get(RECOMPILED) for row in section["rows"])
        ]

    def _try(self, work: Work) -> Row:
        if time.monotonic() > self.deadline:
            return {"not measured": "no time was left"}
        try:
            return work()
        except Exception as error:  # noqa: BLE001  (it is the row: other rows are worth their time)
            traceback.print_exc()
            return {"failed": f"{type(error).__name__}: {str(error).splitlines()[0][:120]}"}
        finally:
            forget()


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
