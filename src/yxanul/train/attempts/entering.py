"""How an attempt begins: after a verdict, from a checkpoint that is named, or as it was recorded.

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
    read_before,
    rolled_back,
)
from yxanul.curriculum.stages import StagePlan
from yxanul.errors import CorruptCheckpointError, CorruptDataError, UsageError
from yxanul.model.initialisation import initialise
from yxanul.runfolder.bringing import bring_checkpoint
from yxanul.runfolder.checkpoints import (
    Checkpoint,
    CheckpointInfo,
    load_checkpoint,
    load_state,
    newest_readable,
    verify_checkpoint,
)
from yxanul.runfolder.lineage import (
    BY_NAME,
    AttemptStart,
    attempt_parent,
    attempt_step,
    begin_attempt,
    branch_of,
    checkpoint_at,
    current_attempt,
    tokens_spent_before,
)
from yxanul.runfolder.lost import ANEW
from yxanul.runfolder.rows import Row
from yxanul.runfolder.verdicts import closed_stages
from yxanul.train.processes.agreement import refusing_together
from yxanul.train.running.session import Session
from yxanul.train.running.stage_data import stage_segments
from yxanul.train.starting.init_from import brought_again, read_weights, take_weights
from yxanul.train.updates.state import (
    Position,
    first_position,
    refuse_other_data,
    restore_state,
)


def act_on(session: Session, position: Position, *, plan: StagePlan, verdict: Row) -> Position:
    """Begin the attempt that a `rollback` or `extend` asks for; return where it stands."""
    ranks = session.engine.processes
    ranks.barrier()  # all have read the verdict that the record supersedes
    with refusing_together(ranks, device=session.engine.device):
        if ranks.is_main:
            _record(session, position, plan=plan, verdict=verdict)
    entered = enter_attempt(session, is_whole=True)
    session.progress.say(_told(session, plan.name, attempt=entered.attempt))
    return entered


def _record(session: Session, position: Position, *, plan: StagePlan, verdict: Row) -> None:
    attempt = position.attempt + 1
    make = _rollback if verdict["verdict"] == "rollback" else _extension
    step, changes = make(session, plan, attempt=attempt)
    parent = checkpoint_at(session.folder.lineage, step)
    _refuse_bad_parent(session, parent)
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


def enter_attempt(session: Session, *, is_whole: bool = False) -> Position:
    """Load what the attempt that was recorded last begins from; return where it stands.

    That is compared, and brought from the mirror if need be, unless it `is_whole` as it was just
    now: all cards wait for it.
    """
    lineage = session.folder.lineage
    attempt, parent = current_attempt(lineage), attempt_parent(lineage)
    session.replan(attempt)
    if parent is None or Path(parent).name != parent:
        position = begin_from_weights(session, parent, step=attempt_step(lineage))
    else:
        ranks = session.engine.processes
        with refusing_together(ranks, device=session.engine.device):
            if ranks.is_main and not is_whole:
                _bring_parent(session, parent)
        path = session.folder.checkpoints / parent
        if not path.is_dir():
            raise CorruptCheckpointError(
                f"attempt {attempt} begins from {path}, which is gone; was it deleted, or is a "
                f"disk not mounted? Bring it back, or {ANEW}"
            )
        position = load_position(session, load_checkpoint(path))
    position.attempt = attempt
    position.tokens_spent = tokens_spent_before(lineage)
    session.vigil.forget_skipped()
    return position


def begin_from_weights(session: Session, parent: str | None, *, step: int) -> Position:
    """Set new weights, or those of another run's checkpoint `parent`; stand at `step` of the run.

    That is the beginning of a stage.
    """
    seed = session.config.optimization.seed
    torch.manual_seed(seed)
    initialise(session.model, session.config.model, seed=seed)
    session.engine.optimizers.forget()
    session.vigil.restore(None)
    session.stand_on(None)
    if parent is not None:
        with refusing_together(session.engine.processes, device=session.engine.device):
            place = brought_again(Path(parent), say=session.progress.say)
            take_weights(place, session.model)
    plan = next((plan for plan in session.stages if plan.first_step == step), None)
    if plan is None:
        raise CorruptDataError(
            f"{session.folder.lineage}: the run was begun at step {step}, where no stage begins; "
            "bring a good copy back"
        )
    return first_position(plan)


def load_position(session: Session, checkpoint: Checkpoint) -> Position:
    """Load a checkpoint of this run into the session; return where it stands."""
    data = session.corpus.identity([plan.name for plan in session.stages])
    refuse_other_data(checkpoint.info.path, checkpoint.state, data=data)
    position = restore_state(checkpoint, session.model, optimizers=session.engine.optimizers)
    try:
        session.vigil.restore(checkpoint.state.get("vigil"))
    except CorruptCheckpointError as error:
        raise CorruptCheckpointError(f"{checkpoint.info.path}: {error}") from error
    session.stand_on(checkpoint.info.name)
    session.progress.say(f"going on from {checkpoint.info.path}")
    return position


def begin_by_name(session: Session, path: Path, *, attempt: int) -> Position:
    """Go on from an older checkpoint as a new attempt; what was spent stays spent.

    The checkpoint is loaded before the attempt is recorded: one that is refused changes nothing.
    """
    folder = session.folder
    spent_there, _ = newest_readable(folder.checkpoints, attempt=attempt, read=_tokens_spent_at)
    checkpoint = load_checkpoint(path)
    session.replan(checkpoint.info.attempt)
    position = load_position(session, checkpoint)
    refuse_other_stage(session, position)
    spent = tokens_spent_before(folder.lineage) if spent_there is None else spent_there
    session.engine.processes.barrier()  # all ranks have read the lineage
    if session.engine.processes.is_main:
        changes = _cut_at(session, checkpoint.info, attempt=attempt + 1)
        start = AttemptStart(
            attempt=attempt + 1,
            step=position.step,
            parent=path.name,
            reason=BY_NAME,
            tokens_spent=spent,
            stage=position.stage if changes else None,
            changes=changes.as_row() if changes else None,
        )
        begin_attempt(folder.lineage, start)
    session.engine.processes.barrier()
    session.replan(attempt + 1)
    position.attempt, position.tokens_spent = attempt + 1, spent
    session.vigil.forget_skipped()
    return position


def _tokens_spent_at(path: Path) -> int:
    """Return what had been spent at a checkpoint."""
    return int(load_state(path)["position"]["tokens_spent"])


def refuse_other_stage(session: Session, position: Position) -> None:
    """A stage goes on from itself, or from the end of the stage before if its gate passed."""
    first = session.active[0]
    if len(session.active) > 1 or position.step > first.first_step or position.stage == first.name:
        return
    # The run may stand elsewhere: a checkpoint that is named is left for no other yet.
    branch = branch_of(session.folder.lineage, position.attempt, step=position.step)
    closed = closed_stages(session.folder, branch)
    if position.step < first.first_step or position.stage not in closed:
        raise UsageError(
            f"{session.folder.root} stands at step {position.step} of {position.stage}, which has "
            f"not passed its gate; finish that stage before --stage {first.name}"
        )


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
    read = plan.changes.with_segments(stage_segments(session, plan))
    changes = extended(read, first=first, end=plan.total_steps + more, attempt=attempt)
    return plan.first_step + first, changes


def _cut_at(session: Session, info: CheckpointInfo, *, attempt: int) -> StageChanges | None:
    """Return the changes of a stage whose steps after a checkpoint get an order of their own.

    None at a stage's border, where nothing is cut.
    """
    for plan in session.stages:
        if plan.first_step < info.step < plan.last_step:
            stage_step = info.step - plan.first_step
            read = stage_segments(session, plan, attempt=info.attempt)
            new = Segment(stage_step, plan.total_steps, attempt)
            return plan.changes.with_segments((*read_before(read, stage_step), new))
    return None


def _bring_parent(session: Session, parent: str) -> bool:
    """Bring a checkpoint from the mirror unless it is here and whole; tell whether it is now.

    A machine that took another's place has the newest one alone. False where no mirror has it.
    """
    address, folder = session.config.optimization.checkpoint.mirror, session.folder
    if address is None:
        return False
    return bring_checkpoint(address, folder, name=parent, say=session.progress.say)


def _refuse_bad_parent(session: Session, parent: str | None) -> None:
    """Raise before an attempt is recorded that could not begin."""
    if parent is None:
        return
    is_own = Path(parent).name == parent
    path = session.folder.checkpoints / parent if is_own else Path(parent)
    # A mirror that lets nobody in says by itself what to do.
    refused = (CorruptDataError,) if is_own else (CorruptDataError, UsageError)
    try:
        if not is_own:
            path = brought_again(path, say=session.progress.say)
            read_weights(path, session.config.model)
        elif not _bring_parent(session, parent):
            verify_checkpoint(path)
    except refused as error:
        raise CorruptCheckpointError(
            f"the gate asks to go back to {path}, which cannot be used: {error}. Bring a good copy "
            f"back and start again, or {ANEW}"
        ) from error


def _told(session: Session, stage: str, *, attempt: int) -> str:
    plan = next(plan for plan in session.stages if plan.name == stage)
    training, data = plan.config.training, plan.config.data
    return (
        f"attempt {attempt} at {stage}: {plan.total_steps} steps, replay {data.replay_share:.0%}, "
        f"peak learning rate {training.learning_rate:.3g}"
    )
