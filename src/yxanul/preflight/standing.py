"""Where a run stands that goes on here, and whether it goes on with these settings.

The one idea: a run is asked where it is, here or, where nothing is here, at its mirror, of which
some small files are read and nothing is kept.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from yxanul.config.schema import RunConfig, StageConfig
from yxanul.curriculum.course import place_in, read_course
from yxanul.curriculum.stages import StagePlan, steps_by_seq_len
from yxanul.errors import UsageError, YxanulError
from yxanul.hardware.choices import pick_device, unused_card
from yxanul.hardware.failures import naming_failed_hardware
from yxanul.runfolder.bringing import bring_rows
from yxanul.runfolder.layout import RunFolder
from yxanul.runfolder.lineage import attempt_step, current_attempt, current_branch, has_begun, is_on
from yxanul.runfolder.mirror import holds_run
from yxanul.runfolder.rows import read_placed_rows
from yxanul.runfolder.spending import Spent, read_spending
from yxanul.runfolder.storage import Place, reaching
from yxanul.runfolder.verdicts import closed_stages, settled_stages
from yxanul.train.probing.begun import with_begun_budgets
from yxanul.train.probing.frozen import refuse_changed_settings


@dataclass(frozen=True)
class Progress:
    """Where a run stands that goes on here, and what it has cost; by default it is new."""

    course: tuple[StagePlan, ...]
    """The stages, with what the gates have changed of them."""
    stage: int = 0
    """The one in `course` that it is in; what is before it is done."""
    stage_step: int = 0
    """Steps of that one that are done."""
    spent: Spent = field(default_factory=Spent)
    closed: frozenset[str] = frozenset()
    """Stages that need no more training by their verdicts."""

    @property
    def done_tokens(self) -> int:
        """Tokens of its stage that are trained."""
        return self.stage_step * self.course[self.stage].config.training.batch_tokens

    @property
    def open_stages(self) -> list[StageConfig]:
        """Settings of the stages that are not closed."""
        return [plan.config for plan in self.course if plan.name not in self.closed]

    @property
    def extensions(self) -> dict[str, int]:
        """How often each stage is lengthened already, by name."""
        return {plan.name: plan.changes.extensions for plan in self.course}

    def left(self) -> Iterator[tuple[StagePlan, int, int]]:
        """Yield each stage, sequence length and number of steps that are still to be trained."""
        for plan in self.course[self.stage :]:
            done = self.stage_step if plan is self.course[self.stage] else 0
            for seq_len, steps in steps_by_seq_len(plan, done).items():
                yield plan, seq_len, steps


def read_progress(config: RunConfig, folder: RunFolder, *, mirror: str | None) -> Progress:
    """Return where the run in the folder stands, or the one at its mirror if there is none."""
    with _run_at(folder, mirror=mirror, names=("metrics", "spending")) as run:
        return _progress(config, run)


@naming_failed_hardware()
def refuse_settings(config: RunConfig, folder: RunFolder, *, mirror: str | None) -> None:
    """Raise a `ConfigError` for what that run, here or at its mirror, does not go on with.

    Nothing is judged by the CPU beside a card that torch does not use, which `features` tells.
    """
    with _run_at(folder, mirror=mirror) as run:
        if has_begun(run.lineage) and unused_card() is None:  # else no card is to be woken
            refuse_changed_settings(config, run, device=pick_device())


@contextmanager
def _run_at(
    folder: RunFolder, *, mirror: str | None, names: Sequence[str] = ()
) -> Iterator[RunFolder]:
    """Give the folder, or a copy of a few files, those of `names` among them, from the mirror."""
    if has_begun(folder.lineage) or mirror is None or not _is_gone_on_with(mirror):
        yield folder
        return
    with tempfile.TemporaryDirectory(prefix="yxanul-") as scratch:
        copy = RunFolder(Path(scratch))
        bring_rows(mirror, [getattr(copy, n) for n in ("lineage", "config", "gates", *names)])
        try:
            yield copy
        except YxanulError as error:  # the copy is gone before anybody reads of it
            told = str(error).replace(scratch, f"{mirror}/run")
            # A new --out would find the same run there.
            raise type(error)(told.replace("another --out", "another checkpoint.mirror")) from error


def _is_gone_on_with(mirror: str) -> bool:
    with reaching(mirror):
        return holds_run(Place(mirror))


def _progress(config: RunConfig, folder: RunFolder) -> Progress:
    """Return where the newest row of the run's branch stands in the course as it is by now."""
    closed = frozenset(closed_stages(folder))
    config = with_begun_budgets(config, folder, stages=settled_stages(folder))
    course = read_course(config, folder, attempt=current_attempt(folder.lineage))
    branch = current_branch(folder.lineage)
    rows = [row for row in read_placed_rows(folder.metrics) if is_on(branch, row)]
    new = Progress(course, spent=read_spending(folder.spending), closed=closed)
    if not rows:
        # An attempt may begin in any stage, and without a row of its own.
        begun = attempt_step(folder.lineage)
        stages = [number for number, plan in enumerate(course) if plan.first_step <= begun]
        return replace(new, stage=stages[-1], stage_step=begun - course[stages[-1]].first_step)
    stage = rows[-1].get("stage")
    if isinstance(stage, str) and stage not in (plan.name for plan in course):
        raise UsageError(
            f"the run in {folder.root} stands in {stage}, which these settings do not have; name "
            "its own --config_dir, or another --out"
        )
    place, done = place_in(course, rows[-1], folder=folder)
    return replace(new, stage=place, stage_step=done)
