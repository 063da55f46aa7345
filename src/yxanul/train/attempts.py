"""What a gate's verdict does to a run: a new attempt begins, from an older place or lengthened.

The attempt is recorded, durably, before it begins; `enter_attempt` then brings the session to where
the record says, in the same process or in the next one after a crash.
"""

from pathlib import Path

import torch

from yxanul.curriculum.changes import (
    Segment,
    StageChanges,
    extended,
    extension_steps,
    rolled_back,
)
from yxanul.curriculum.stages import StagePlan
from yxanul.errors import CorruptCheckpointError
from yxanul.evaluate.loaded import copy_weights
from yxanul.model.initialisation import initialise
from yxanul.runfolder.checkpoints import (
    Checkpoint,
    load_checkpoint,
    load_weights,
    newest_checkpoint,
    verify_checkpoint,
)
from yxanul.runfolder.layout import RunFolder
from yxanul.runfolder.lineage import (
    AttemptStart,
    attempt_parent,
    begin_attempt,
    checkpoint_at,
    current_attempt,
    tokens_spent_before,
)
from yxanul.runfolder.rows import Row
from yxanul.train.reading import stage_segments
from yxanul.train.session import Session
from yxanul.train.state import (
    Position,
    first_position,
    refuse_other_data,
    restore_state,
)


def act_on(session: Session, position: Position, *, plan: StagePlan, verdict: Row) -> Position:
    """Begin the attempt that a `rollback` or `extend` asks for; return where it stands."""
    if session.engine.processes.is_main:
        attempt = position.attempt + 1
        make = _rollback if verdict["verdict"] == "rollback" else _extension
        step, changes = make(session, plan, attempt=attempt)
        parent = checkpoint_at(session.folder.lineage, step)
        _refuse_bad_parent(session.folder, parent)
        start = AttemptStart(
            attempt=attempt,
            step=step,
            parent=parent,
            reason=f"{verdict['verdict']} of {plan.name}: {verdict['why']}",
            tokens_spent=position.tokens_spent,
            stage=plan.name,
            changes=changes.as_row(),
        )
        begin_attempt(session.folder.lineage, start)
    session.engine.processes.barrier()
    entered = enter_attempt(session)
    session.progress.say(_told(session, plan.name, attempt=entered.attempt))
    return entered


def enter_attempt(session: Session) -> Position:
    """Load what the attempt that was recorded last begins from; return where it stands."""
    lineage = session.folder.lineage
    attempt, parent = current_attempt(lineage), attempt_parent(lineage)
    session.replan(attempt)
    if parent is None or Path(parent).name != parent:
        position = begin_from_weights(session, parent)
    else:
        position = load_position(session, load_checkpoint(session.folder.checkpoints / parent))
    position.attempt = attempt
    position.tokens_spent = tokens_spent_before(lineage)
    return position


def begin_from_weights(session: Session, parent: str | None) -> Position:
    """Set new weights, or those of another run's checkpoint `parent`; return the beginning."""
    seed = session.config.optimization.seed
    torch.manual_seed(seed)
    initialise(session.model, session.config.model, seed=seed)
    session.engine.optimizers.forget()
    if parent is not None:
        copy_weights(load_weights(Path(parent)), session.model)
    return first_position(session.active[0])


def load_position(session: Session, checkpoint: Checkpoint) -> Position:
    """Load a checkpoint of this run into the session; return where it stands."""
    refuse_other_data(checkpoint, session.corpus.identity([plan.name for plan in session.stages]))
    position = restore_state(checkpoint, session.model, optimizers=session.engine.optimizers)
    session.parent = checkpoint.info.name
    session.progress.say(f"going on from {checkpoint.info.path}")
    return position


def begin_by_name(session: Session, path: Path, *, attempt: int) -> Position:
    """Go on from an older checkpoint as a new attempt; what was spent stays spent."""
    folder = session.folder
    left, _ = newest_checkpoint(folder.checkpoints, attempt=attempt)
    info = verify_checkpoint(path)
    if session.engine.processes.is_main:
        session.replan(info.attempt)
        changes = _cut_at(session, info.step, attempt=attempt + 1)
        spent = int(left.state["position"]["tokens_spent"]) if left is not None else 0
        start = AttemptStart(
            attempt=attempt + 1,
            step=info.step,
            parent=path.name,
            reason="resumed by name",
            tokens_spent=spent,
            stage=info.stage if changes else None,
            changes=changes.as_row() if changes else None,
        )
        begin_attempt(folder.lineage, start)
    session.engine.processes.barrier()
    return enter_attempt(session)


def _rollback(session: Session, plan: StagePlan, *, attempt: int) -> tuple[int, StageChanges]:
    """Return the step to go back to, and what the new attempt at the stage changes."""
    changes = rolled_back(
        plan.changes,
        next(stage for stage in session.config.stages if stage.name == plan.name),
        can_replay=plan.index > 0,
        steps=plan.base_steps,
        attempt=attempt,
    )
    return plan.first_step, changes


def _extension(session: Session, plan: StagePlan, *, attempt: int) -> tuple[int, StageChanges]:
    """Return the step to go on from, and how the stage is lengthened.

    That is its end, or the place before its decay where the schedule has a stable part.
    """
    more = extension_steps(plan.config.gate, plan.base_steps)
    first = plan.total_steps if plan.decay_start is None else plan.decay_start
    changes = extended(
        _with_segments(session, plan), first=first, end=plan.total_steps + more, attempt=attempt
    )
    return plan.first_step + first, changes


def _cut_at(session: Session, step: int, *, attempt: int) -> StageChanges | None:
    """Return the changes of a stage whose steps after `step` get an order of their own."""
    for plan in session.stages:
        if plan.first_step < step < plan.last_step:
            stage_step = step - plan.first_step
            changes = _with_segments(session, plan)
            kept = tuple(part for part in changes.segments if part.first < stage_step)
            new = Segment(stage_step, plan.total_steps, attempt)
            return changes.with_segments((*kept, new))
    return None


def _with_segments(session: Session, plan: StagePlan) -> StageChanges:
    return plan.changes.with_segments(stage_segments(session, plan))


def _refuse_bad_parent(folder: RunFolder, parent: str | None) -> None:
    """Raise before an attempt is recorded that could not begin."""
    if parent is None:
        return
    path = folder.checkpoints / parent if Path(parent).name == parent else Path(parent)
    try:
        verify_checkpoint(path)
    except CorruptCheckpointError as error:
        raise CorruptCheckpointError(
            f"the gate asks to go back to {path}, which cannot be used: {error}. Bring a good copy "
            "back and start again, or begin anew with another --out"
        ) from error


def _told(session: Session, stage: str, *, attempt: int) -> str:
    plan = next(plan for plan in session.stages if plan.name == stage)
    training, data = plan.config.training, plan.config.data
    return (
        f"attempt {attempt} at {stage}: {plan.total_steps} steps, replay {data.replay_share:.0%}, "
        f"peak learning rate {training.learning_rate:.3g}"
    )
