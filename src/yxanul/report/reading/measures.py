"""Figures of one task score, each with the lists of items that it is computed from.

A rate is the mean of its items; gold_bpb is a ratio of sums. An interval of a rate is Wilson's
(1927): it holds for few items and at 0 passes, where the normal one has no width.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from yxanul.config.evaluation import GOLD
from yxanul.curriculum.statistics.bootstrap import MDE_FACTOR
from yxanul.curriculum.statistics.intervals import Z_95, wilson
from yxanul.report.reading.records import Record, read_record
from yxanul.report.reading.traced import Traced
from yxanul.runfolder.checkpoints import CHECKPOINT_NAME
from yxanul.runfolder.skill_scores import BYTES, NATS, TaskScore, read_task_score

_NAME = re.compile(r"step-(\d{8,})-a(\d+)-.+\.json")


@dataclass(frozen=True)
class SkillScore:
    """What a model reached in one task at one step: a file of RUN/scores/skills or RUN/evaluation.

    The step and the attempt stand in the file's name, or in its folder's.
    """

    record: Record
    score: TaskScore
    step: int
    attempt: int

    @property
    def task(self) -> str:
        """The task's name, as the file says it."""
        return self.score.task

    @property
    def measures(self) -> tuple[str, ...]:
        """What was measured, as people read it: rates, and gold_bpb for the two sums below it."""
        rates = [name for name in self.score.measures if name not in (NATS, BYTES)]
        return tuple(name for name in (*rates, GOLD) if self.value(name) is not None)

    def value(self, measure: str) -> Traced | None:
        """Return a figure; None when it was not taken, or of no items."""
        if measure == GOLD:
            return self._gold_bpb()
        items = self.score.measures.get(measure)
        if not items:
            return None
        kind = "share" if is_rate(items) else "plain"
        return Traced(math.fsum(items) / len(items), (self._source(measure),), "mean", kind)

    def interval(self, measure: str) -> tuple[Traced, Traced] | None:
        """Return the 95 % interval of a rate; None for what is no share of passes."""
        items = self.score.measures.get(measure, [])
        if measure == GOLD or not items or not set(items) <= {0, 1}:
            return None
        low, high = wilson(sum(items), len(items))
        where = (self._source(measure),)
        below = Traced(low, where, "wilson low", "share")
        return below, Traced(high, where, "wilson high", "share")

    def detectable(self, measure: str) -> Traced | None:
        """Return how far a rate must lie from a known one to be told apart; as G4 reports it."""
        bounds = self.interval(measure)
        if bounds is None:
            return None
        error = (bounds[1].number - bounds[0].number) / (2 * Z_95)
        return Traced(MDE_FACTOR * error, (self._source(measure),), "detectable", "points size")

    def change(self, measure: str, before: SkillScore) -> Traced | None:
        """Return what became of a figure: a difference for a rate, relative for gold_bpb."""
        now, then = self.value(measure), before.value(measure)
        if now is None or then is None or (measure == GOLD and then.number == 0):
            return None
        where = (*now.sources, *then.sources)
        if measure == GOLD:
            return Traced(now.number / then.number - 1, where, "gold change", "change")
        kind = "points" if now.kind == "share" else "plain"
        return Traced(now.number - then.number, where, "difference", kind)

    def items(self) -> Traced:
        """Return how many items were scored."""
        return Traced(len(self.score.ids), (self.record.source("ids"),), "length")

    def clusters(self) -> Traced | None:
        """Return how many different groups the items stand in; None where each stands alone."""
        if self.score.clusters is None:
            return None
        groups = len(set(self.score.clusters))
        return Traced(groups, (self.record.source("clusters"),), "distinct")

    def at_step(self) -> Traced:
        """Return the step, which a name tells."""
        return Traced(self.step, (self.record.source(),), "named")

    def _gold_bpb(self) -> Traced | None:
        sums = self.score.measures
        if NATS not in sums or not math.fsum(sums.get(BYTES, [])):
            return None
        where = (self._source(NATS), self._source(BYTES))
        return Traced(self.score.gold_bpb(), where, "bits per byte", "bpb")

    def _source(self, measure: str) -> str:
        return self.record.source("measures", measure)


@dataclass(frozen=True)
class TextScore:
    """What held-out text cost a checkpoint, by domain: a perplexity.json of RUN/evaluation."""

    record: Record
    step: int
    attempt: int


def read_skills(folder: Path) -> Iterator[SkillScore]:
    """Yield the task scores below RUN/scores in the order of step, attempt and task."""
    for path in sorted((folder / "skills").glob("step-*.json")):
        record = read_record(path, f"{folder.name}/skills/{path.name}")
        named = _NAME.fullmatch(path.name)
        if record is None:
            continue
        if named is None:
            raise record.wrong("a score whose file is named step-<step>-a<attempt>-<task>.json")
        yield SkillScore(record, read_task_score(path), int(named[1]), int(named[2]))


def read_evaluations(folder: Path) -> Iterator[SkillScore]:
    """Yield the task scores below RUN/evaluation, which `yxanul evaluate` took of checkpoints."""
    for record, step, attempt in _of_checkpoints(folder, "[!.]*shot*.json"):
        yield SkillScore(record, read_task_score(record.path), step, attempt)


def read_evaluated_texts(folder: Path) -> Iterator[TextScore]:
    """Yield what `yxanul evaluate` found of the run's own held-out text, a checkpoint each."""
    for record, step, attempt in _of_checkpoints(folder, "perplexity.json"):
        yield TextScore(record, step, attempt)


def _of_checkpoints(folder: Path, pattern: str) -> Iterator[tuple[Record, int, int]]:
    for path in sorted(folder.glob(f"step-*/{pattern}")):
        if named := CHECKPOINT_NAME.fullmatch(path.parent.name):
            record = read_record(path, f"{folder.name}/{path.parent.name}/{path.name}")
            if record is not None:
                yield record, int(named[1]), int(named[2])


def is_rate(items: Sequence[float]) -> bool:
    """Tell whether values are shares of one."""
    return all(0 <= value <= 1 for value in items)
