"""HumanEval: the head of a Python function whose body is to be written (arXiv 2107.03374)."""

from __future__ import annotations

from yxanul.data.benchmarks.fields import Fields
from yxanul.data.benchmarks.items import ProgramItem


def from_row(row: Fields, number: int) -> ProgramItem:
    """Return the item of a row, on the hub, in a folder and in the package; number is unused."""
    del number
    return ProgramItem(
        id=row.text("task_id"),
        prompt=row.text("prompt"),
        solution=row.text("canonical_solution"),
        test=row.text("test"),
        entry_point=row.text("entry_point"),
    )
