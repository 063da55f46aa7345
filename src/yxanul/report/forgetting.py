"""The forgetting matrix: what each stage did to every domain, against the best it had been."""

from __future__ import annotations

import math
from dataclasses import dataclass

from yxanul.report.course import own_domains, stage_names, stage_verdict
from yxanul.report.gather import Run
from yxanul.report.records import Record
from yxanul.report.traced import Story, Traced, change

# Where a colour is full: learning halves a bpb, forgetting is a matter of percents.
_FULL_LEARNED, _FULL_FORGOTTEN = 0.6, 0.25


@dataclass(frozen=True)
class Cell:
    """One domain at one time; `against_best` compares with the lowest value before, if any."""

    bpb: Traced | None
    against_best: Traced | None
    is_own: bool
    """The domain was the stage's own."""

    @property
    def tone(self) -> str:
        """Whether the domain was learned, forgotten, or has nothing to compare with."""
        if self.against_best is None or self.against_best.number == 0:
            return "even"
        return "learned" if self.against_best.number < 0 else "forgotten"

    @property
    def strength(self) -> int:
        """How full the colour is, 0 to 100; a square root, so that small changes are seen."""
        if self.against_best is None:
            return 0
        moved = self.against_best.number
        full = _FULL_LEARNED if moved < 0 else _FULL_FORGOTTEN
        return round(100 * math.sqrt(min(1.0, abs(moved) / full)))


@dataclass(frozen=True)
class MatrixRow:
    """A time: the start, or the end of a stage."""

    title: Story
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Matrix:
    """Domains as columns, times as rows; values in bits per byte, lower is better."""

    domains: tuple[Traced, ...]
    rows: tuple[MatrixRow, ...]


def forgetting_matrix(run: Run) -> Matrix | None:
    """Return the matrix of the run's branch; None before a gate has compared scores."""
    closed = [
        (name, verdict)
        for name in stage_names(run)
        if (verdict := stage_verdict(run, str(name.value))) and verdict.table("bpb_after")
    ]
    if not closed:
        return None
    first = closed[0][1]
    domains = tuple(first.table("bpb_before") or first.table("bpb_after"))
    best: dict[str, Traced] = {}
    rows = []
    if first.table("bpb_before"):
        start = _row(("start",), first, key="bpb_before", domains=domains, best=best, own=())
        rows.append(start)
    for name, verdict in closed:
        own = own_domains(run, str(name.value))
        title: Story = ("after ", name)
        rows.append(_row(title, verdict, key="bpb_after", domains=domains, best=best, own=own))
    return Matrix(tuple(_domain(first, name) for name in domains), tuple(rows))


def _row(
    title: Story,
    verdict: Record,
    *,
    key: str,
    domains: tuple[str, ...],
    best: dict[str, Traced],
    own: tuple[str, ...],
) -> MatrixRow:
    """Build one row, and let `best` remember the lowest value of each domain so far."""
    cells = []
    for domain in domains:
        now, before = verdict.number(key, domain), best.get(domain)
        moved = change(now, before) if now is not None and before is not None else None
        cells.append(Cell(now, moved, domain in own))
        if now is not None and (before is None or now.number < before.number):
            best[domain] = now
    return MatrixRow(title, tuple(cells))


def _domain(verdict: Record, name: str) -> Traced:
    """Return a domain's name: it is the key of its value, in the first verdict that has it."""
    key = "bpb_before" if name in verdict.table("bpb_before") else "bpb_after"
    return Traced(name, (verdict.source(key, name),), "key")
