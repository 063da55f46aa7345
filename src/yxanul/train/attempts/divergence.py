"""What is done when steps after steps must be skipped: back, and on over other text.

The one idea is PaLM's (arXiv 2204.02311, section 5.1): begin again from a checkpoint well before
the trouble, and leave out the batches around it. That is a new attempt, recorded before it begins
like those of the gates. Where the same comes again soon, a person must look at it.
"""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from yxanul.curriculum.changes import Segment
from yxanul.curriculum.stages import StagePlan
from yxanul.errors import CorruptCheckpointError, NumericsError
from yxanul.runfolder.checkpoints import CheckpointInfo, list_checkpoints, verify_checkpoint
from yxanul.runfolder.lineage import (
    DIVERGED,
    AttemptStart,
    begin_attempt,
    checkpoint_at,
    current_branch,
    events,
    record_event,
)
from yxanul.train.attempts.entering import enter_attempt
from yxanul.train.running.session import Session
from yxanul.train.running.stage_data import stage_segments
from yxanul.train.updates.state import Position
from yxanul.train.updates.step import ADVICE

_TOO_SOON = 1000
"""A second divergence within so many steps ends the run."""


def go_back(session: Session, position: Position, *, plan: StagePlan, why: str) -> Position:
    """Begin an attempt before the steps that were skipped last; return where it stands.

    Raises `NumericsError` if the run has gone back for that reason within the last thousand steps.
    """
    session.engine.processes.barrier()  # no rank is behind, reading the lineage
    if session.engine.processes.is_main:
        with session.watchdog.watching("a checkpoint"):
            session.saver.finish()
        _refuse_again(session, position, why=why)
        place = {"step": position.step, "attempt": position.attempt}
        record_event(session.folder.lineage, DIVERGED, **place, why=why)
        first_bad = _first_of_the_last_row(session.vigil.skipped)
        begin_attempt(
            session.folder.lineage, _attempt(session, position, plan=plan, first_bad=first_bad)
        )
    session.engine.processes.barrier()
    entered = enter_attempt(session)
    session.progress.say(
        f"{why}: attempt {entered.attempt} goes on from step {entered.step}, over other text"
    )
    return entered


def _refuse_again(session: Session, position: Position, *, why: str) -> None:
    for row in events(session.folder.lineage, DIVERGED):
        is_before = row.get("attempt") != position.attempt
        if is_before and abs(position.step - int(row["step"])) < _TOO_SOON:
            raise NumericsError(
                f"{why} at step {position.step}, again after going back from step {row['step']}; "
                f"lower training.learning_rate or set compute.precision=fp32: {ADVICE}"
            )


def _first_of_the_last_row(skipped: list[int]) -> int:
    """Return the first of the skipped steps that follow one another up to the last one."""
    first = skipped[-1]
    for step in reversed(skipped):
        if step < first - 1:
            break
        first = step
    return first


def _attempt(
    session: Session, position: Position, *, plan: StagePlan, first_bad: int
) -> AttemptStart:
    """Return how the run goes on: from which checkpoint, and without which text."""
    rules = session.config.optimization.numerics
    back_to = _place_to_go_back_to(session, plan, first_bad=first_bad)
    step = plan.first_step if back_to is None else back_to.step
    lineage = session.folder.lineage
    attempt = position.attempt + 1
    # From where it begins again until past the trouble.
    left_out = max(rules.skip_steps, position.step - step)
    new = Segment(step - plan.first_step, plan.total_steps, attempt, left_out=left_out)
    # Those that are left stay, even where nothing of one was kept: they say what is left out.
    kept = stage_segments(session, plan)
    return AttemptStart(
        attempt=attempt,
        step=step,
        parent=checkpoint_at(lineage, step) if back_to is None else back_to.name,
        reason=f"{DIVERGED} at step {position.step}; what {left_out} steps would read is left out",
        tokens_spent=position.tokens_spent,
        stage=plan.name,
        changes=plan.changes.with_segments((*kept, new)).as_row(),
    )


def _place_to_go_back_to(
    session: Session, plan: StagePlan, *, first_bad: int
) -> CheckpointInfo | None:
    """Return one of the stage's last checkpoints before the trouble, well before if there is one.

    None is the stage's beginning.
    """
    settings = session.config.optimization
    found = _checkpoints(session, first=plan.first_step, last=first_bad)
    recent = list(islice(found, settings.checkpoint.keep))
    far = [info for info in recent if info.step <= first_bad - settings.numerics.back_steps]
    return next(iter(far), recent[-1] if recent else None)


def _checkpoints(session: Session, *, first: int, last: int) -> Iterator[CheckpointInfo]:
    """Yield the branch's checkpoints after step `first` up to `last` that verify, newest first."""
    branch = current_branch(session.folder.lineage)
    for path in reversed(list_checkpoints(session.folder.checkpoints)):
        info = _verified(path)
        if info is None or not first < info.step <= last:
            continue
        if info.step <= branch.get(info.attempt, -1):
            yield info


def _verified(path: Path) -> CheckpointInfo | None:
    try:
        return verify_checkpoint(path)
    except CorruptCheckpointError:
        return None  # the next start names it and sets it aside
