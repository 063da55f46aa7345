"""What a run does at this moment, as plain values: its folder, read once more.

The one idea: each look reads what is new of the rows and the few small files anew. Nothing is
written, and no lock is taken: the run does not notice. What it has not recorded yet is None.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from yxanul.config.schema import BudgetConfig, RunConfig
from yxanul.curriculum.checks.budget import budget_share
from yxanul.curriculum.course import own_course, place_in, read_course, read_frozen_config
from yxanul.curriculum.stages import StagePlan
from yxanul.errors import CorruptDataError
from yxanul.plan.parameters import parameter_count
from yxanul.runfolder.exits import ExitRecord, begun_run, read_exit
from yxanul.runfolder.layout import RunFolder
from yxanul.runfolder.lineage import current_attempt, current_branch, is_on
from yxanul.runfolder.rows import Row, refuse_unplaced
from yxanul.runfolder.spending import Payment, parse_payment
from yxanul.runfolder.verdicts import read_verdicts
from yxanul.watch.held_out import HeldOutScores
from yxanul.watch.incidents import Incident, incidents
from yxanul.watch.pace import Outlook, Pace
from yxanul.watch.tail import RowTail

# How long a supervisor may take to start a run again, after its last pause.
_RESTART_S = 600.0
_NUMBERS = ("tokens_seen", "seq_len", "step_s", "tokens_per_s")
# A step that was not finite has null in the place of its loss.
_NUMBERS_OR_NULL = ("loss", "grad_norm", "learning_rate", "mfu")


@dataclass(frozen=True)
class StageView:
    """How far a stage is, and what its gate said, if it was asked."""

    name: str
    done: int
    total: int
    verdict: str | None


@dataclass(frozen=True)
class Snapshot:
    """One look at a run."""

    name: str
    config: RunConfig
    parameters: int
    is_mirror: bool
    """It is the copy of a run on another machine, of which is not known whether it runs."""
    is_running: bool
    """A process of this machine holds the folder."""
    ending: ExitRecord | None
    """How the last process ended; None: it runs, or left no word."""
    starts: int
    """Processes that have worked on it."""
    attempt: int
    stages: tuple[StageView, ...]
    stage: int | None
    """Where in `stages` the newest row stands; None before the first one."""
    total_tokens: int
    """Those that will have been seen at its end, what it was begun from included."""
    rows: tuple[Row, ...]
    """Metric rows of the run's branch, in order."""
    scores: dict[str, list[float]]
    """{domain: its bits per byte on held-out text, by step}."""
    row_age_s: float | None
    """Since the newest row was written."""
    silent_s: float
    """Since any of the run's files was written, as a start, a row, a score or a verdict does."""
    outlook: Outlook | None
    """What it has cost and will; None: not known yet."""
    budget: BudgetConfig
    budget_share: float | None
    """The part of the budget that the whole run will take; None without a budget or outlook."""
    memory_bytes: int | None
    """The most that the process has held; None: not known yet."""
    incidents: tuple[Incident, ...]

    @property
    def has_ended(self) -> bool:
        """Whether nothing more will come: no process is at it, and none will start.

        What a supervisor starts again is waited for, from the last one's end, or, where it was
        killed and left no word, from its last sign of life. Of a mirror that is not known.
        """
        if self.is_running:
            return False
        if self.ending is None:
            return not self.is_mirror and self.silent_s > _RESTART_S
        age_s = time.time() - self.ending.ended_at
        return not self.ending.may_go_on or age_s > _RESTART_S

    @property
    def newest(self) -> Row | None:
        """The newest metric row."""
        return self.rows[-1] if self.rows else None


def may_begin(folder: RunFolder, *, seen_at: float | None) -> bool:
    """Tell whether a run without settings, at which no process is, may be started again by itself.

    As in `Snapshot.has_ended`; `seen_at` is when a process was last seen at it.
    """
    record = read_exit(folder)
    if record is not None and not record.is_of_an_earlier_process(seen_at):
        seen_at = record.ended_at if record.may_go_on else None
    return seen_at is not None and time.time() - seen_at <= _RESTART_S


class Watch:
    """A run folder that is looked at again and again."""

    def __init__(
        self, folder: RunFolder, *, is_mirror: bool = False, name: str | None = None
    ) -> None:
        """One that holds no run is a `UsageError`; `is_mirror`: it is a copy that is renewed.

        `name` is the run's, None: the folder's.
        """
        self._folder, self._is_mirror = begun_run(folder.root), is_mirror
        self._name = folder.root.resolve().name if name is None else name
        self._config, self._config_at = read_frozen_config(folder), _written_at(folder.config)
        self._metrics = RowTail(folder.metrics)
        self._spending = RowTail(folder.spending)
        self._pace = Pace(self._config.model)
        self._paid: Payment | None = None
        self._scores = HeldOutScores(folder.scores)

    def look(self) -> Snapshot:
        """Read what is new; a damaged file is a `CorruptDataError`."""
        folder, config = self._folder, self._read_config()
        new = self._metrics.read()
        first = 1 + len(self._metrics.rows) - len(new)
        refuse_unplaced(new, path=folder.metrics, first=first)
        _refuse_damaged(new, path=folder.metrics, first=first)
        self._count_spending()
        attempt = current_attempt(folder.lineage)
        branch = current_branch(folder.lineage)
        course = own_course(read_course(config, folder, attempt=attempt), folder)
        rows = tuple(row for row in self._metrics.rows if is_on(branch, row))
        verdicts = read_verdicts(folder)
        stage, done = place_in(course, rows[-1], folder=folder) if rows else (None, 0)
        is_scored = stage is not None and _is_scored(course[stage], verdicts)
        found = self._pace.forecast(course, stage=stage or 0, stage_step=done, is_scored=is_scored)
        budget = config.optimization.budget
        price = budget.usd_per_hour
        is_running = folder.is_held_elsewhere()
        return Snapshot(
            name=self._name,
            config=config,
            parameters=parameter_count(config.model).total,
            is_mirror=self._is_mirror,
            is_running=is_running,
            ending=None if is_running else self._ending(),
            starts=len({row["process"] for row in self._spending.rows}),
            attempt=attempt,
            stages=tuple(_stage_views(course, at=(stage, done), verdicts=verdicts)),
            stage=stage,
            total_tokens=course[-1].first_token + course[-1].tokens,
            rows=rows,
            scores=self._scores.read(branch),
            row_age_s=self._row_age_s(),
            silent_s=self._silent_s(),
            outlook=None if found is None else self._pace.outlook(found, usd_per_hour=price),
            budget=budget,
            budget_share=None
            if found is None
            else budget_share(budget, self._pace.spent, left_s=found.left),
            memory_bytes=None if self._paid is None else self._paid.memory_bytes,
            incidents=tuple(incidents(folder, self._metrics.rows)),
        )

    def _read_config(self) -> RunConfig:
        """Return the settings; another start may have changed the budget."""
        at = _written_at(self._folder.config)
        if at != self._config_at:
            self._config, self._config_at = read_frozen_config(self._folder), at
        return self._config

    def _count_spending(self) -> None:
        new, known = self._spending.read(), len(self._spending.rows)
        first = 1 + known - len(new)
        if first == 1:  # the file is new, or was written anew: a mirror's copy is
            self._pace = Pace(self._config.model)
        for number, row in enumerate(new, start=first):
            self._paid = parse_payment(row, place=f"{self._folder.spending}, line {number}")
            self._pace.add(self._paid)

    def _ending(self) -> ExitRecord | None:
        record = read_exit(self._folder)
        at = None if self._paid is None else self._paid.at
        return None if record is None or record.is_of_an_earlier_process(at) else record

    def _row_age_s(self) -> float | None:
        """Return the age of the newest row; of a mirror's copy the file would not tell it."""
        at = None if self._paid is None else self._paid.at
        at = _written_at(self._folder.metrics) if at is None else at
        return None if at is None else max(0.0, time.time() - at)

    def _silent_s(self) -> float:
        folder = self._folder
        lived = (folder.config, folder.lineage, folder.metrics, folder.spending, folder.gates)
        places = (*lived, folder.scores, folder.checkpoints)
        newest = max(_written_at(place) or 0.0 for place in places)
        return max(0.0, time.time() - newest)


def _stage_views(
    course: Sequence[StagePlan], *, at: tuple[int | None, int], verdicts: Mapping[str, Row]
) -> Iterator[StageView]:
    """Yield the stages of a course; `at`: where in it the newest row stands, and its steps."""
    stage, done = at
    for place, plan in enumerate(course):
        is_over = stage is not None and place < stage
        reached = plan.total_steps if is_over else done if place == stage else 0
        verdict = verdicts.get(plan.name, {}).get("verdict")
        yield StageView(plan.name, reached, plan.total_steps, verdict)


def _is_scored(plan: StagePlan, verdicts: Mapping[str, Row]) -> bool:
    """Tell whether the end of a stage was scored; after an extension it is scored again."""
    return verdicts.get(plan.name, {}).get("step") == plan.last_step


def _refuse_damaged(rows: Sequence[Row], *, path: Path, first: int) -> None:
    """Raise for a row without the numbers that every version writes."""
    for number, row in enumerate(rows, start=first):
        for key in (*_NUMBERS, *_NUMBERS_OR_NULL):
            value = row.get(key)
            is_absent = value is None and key in _NUMBERS_OR_NULL
            if not is_absent and (isinstance(value, bool) or not isinstance(value, int | float)):
                raise CorruptDataError(
                    f"{path}, line {number}: {key} is missing or no number; bring a good copy "
                    "back, or delete that line"
                )


def _written_at(path: Path) -> float | None:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return None
