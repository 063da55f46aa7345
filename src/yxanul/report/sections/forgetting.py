"""The forgetting matrices: what each stage did to every domain and skill, against their best."""

from __future__ import annotations

import math
from dataclasses import dataclass

from yxanul.config.evaluation import GOLD, TASKS
from yxanul.report.reading.closed import ENDS, closed_stages
from yxanul.report.reading.gather import Run
from yxanul.report.reading.measures import SkillScore
from yxanul.report.reading.records import Record
from yxanul.report.reading.skills import key_of, moment_title, scores_by_task
from yxanul.report.reading.traced import Story, Traced, change

# Where a colour is full: learning halves a bpb, forgetting is a matter of percents.
_FULL_LEARNED, _FULL_FORGOTTEN = 0.6, 0.25
# Of a rate, in shares of the items.
_FULL_WON, _FULL_LOST = 0.2, 0.1


@dataclass(frozen=True)
class Cell:
    """One domain or skill at one time; `against_best` compares with the best before, if any."""

    value: Traced | None
    against_best: Traced | None
    is_own: bool
    """The domain was the stage's own."""
    is_rate: bool = False
    """Larger is better, and a change is a difference."""

    @property
    def tone(self) -> str:
        """Whether it was learned, forgotten, or has nothing to compare with."""
        if self.against_best is None or self.against_best.number == 0:
            return "even"
        return "learned" if (self.against_best.number > 0) == self.is_rate else "forgotten"

    @property
    def strength(self) -> int:
        """How full the colour is, 0 to 100; a square root, so that small changes are seen."""
        if self.against_best is None:
            return 0
        moved, is_learned = self.against_best.number, self.tone == "learned"
        full = _FULL_LEARNED if is_learned else _FULL_FORGOTTEN
        if self.is_rate:
            full = _FULL_WON if is_learned else _FULL_LOST
        return round(100 * math.sqrt(min(1.0, abs(moved) / full)))


@dataclass(frozen=True)
class MatrixRow:
    """A time: the start, or the end of a stage."""

    title: Story
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Matrix:
    """Domains or skills as columns, times as rows."""

    columns: tuple[Story, ...]
    rows: tuple[MatrixRow, ...]


def forgetting_matrix(run: Run) -> Matrix | None:
    """Return the matrix of the run's branch; None before a gate has compared scores."""
    closed = closed_stages(run)
    if not closed:
        return None
    columns = _columns([stage.verdict for stage in closed])
    best: dict[str, Traced] = {}
    rows = []
    if closed[0].verdict.table("bpb_before"):
        start = {domain: closed[0].before.get(domain) for domain in columns}
        rows.append(_row(("start",), start, best=best, own=()))
    for stage in closed:
        values = {domain: stage.after.get(domain) for domain in columns}
        rows.append(_row(("after ", stage.stage), values, best=best, own=stage.own))
    return Matrix(tuple((domain,) for domain in columns.values()), tuple(rows))


def skill_matrix(run: Run) -> Matrix | None:
    """Return what every task is judged by at each moment; None with fewer than two moments."""
    columns = [
        (scores, measure)
        for task, scores in scores_by_task(run).items()
        for measure in _judged(task, scores)
    ]
    steps = sorted({one.step for scores, _ in columns for one in scores})
    if len(steps) < 2:
        return None
    best: dict[int, SkillScore] = {}
    rows = []
    for step in steps:
        cells = []
        for number, (scores, measure) in enumerate(columns):
            one = next((one for one in scores if one.step == step and one.value(measure)), None)
            before = best.get(number)
            cells.append(_skill_cell(one, before, measure=measure))
            if one is not None and _is_better(one, before, measure=measure):
                best[number] = one
        at = next(one for scores, _ in columns for one in scores if one.step == step)
        rows.append(MatrixRow(moment_title(run, at), tuple(cells)))
    return Matrix(tuple(_skill_title(*column) for column in columns), tuple(rows))


def _judged(task: str, scores: list[SkillScore]) -> list[str]:
    """Return what the gate judges a task by, or for an unknown one all that was taken."""
    taken = list(dict.fromkeys(measure for one in scores for measure in one.measures))
    return [m for m in taken if task not in TASKS or m == TASKS[task].gates_by]


def _skill_title(scores: list[SkillScore], measure: str) -> Story:
    one = next(one for one in reversed(scores) if one.value(measure) is not None)
    return (one.record.text("task") or one.task, " ", key_of(one, measure))


def _skill_cell(one: SkillScore | None, best: SkillScore | None, *, measure: str) -> Cell:
    moved = one.change(measure, best) if one is not None and best is not None else None
    value = one.value(measure) if one is not None else None
    return Cell(value, moved, False, is_rate=measure != GOLD)


def _is_better(one: SkillScore, best: SkillScore | None, *, measure: str) -> bool:
    now, then = one.value(measure), best.value(measure) if best is not None else None
    if now is None or then is None:
        return now is not None
    return now.number < then.number if measure == GOLD else now.number > then.number


def _columns(verdicts: list[Record]) -> dict[str, Traced]:
    """Return the domains of all verdicts: stages that are trained one by one know no later ones.

    Each is the key of its value, in the first verdict that has it.
    """
    found: dict[str, Traced] = {}
    for verdict in verdicts:
        for key in ENDS:
            for name in verdict.table(key):
                found.setdefault(name, Traced(name, (verdict.source(key, name),), "key"))
    return found


def _row(
    title: Story,
    values: dict[str, Traced | None],
    *,
    best: dict[str, Traced],
    own: tuple[str, ...],
) -> MatrixRow:
    """Build one row, and let `best` remember the lowest value of each domain so far."""
    cells = []
    for domain, now in values.items():
        before = best.get(domain)
        moved = change(now, before) if now is not None and before is not None else None
        shown = now.shown_as("bpb") if now is not None else None
        cells.append(Cell(shown, moved, domain in own))
        if now is not None and (before is None or now.number < before.number):
            best[domain] = now
    return MatrixRow(title, tuple(cells))
