"""Where to go on from.

The newest checkpoint that verifies, the one that was named, other weights, or the beginning.
"""

from pathlib import Path

from yxanul.errors import CorruptCheckpointError, UsageError
from yxanul.runfolder.checkpoints import (
    Checkpoint,
    list_checkpoints,
    load_checkpoint,
    newest_checkpoint,
    remove_leftovers,
    set_aside,
)
from yxanul.runfolder.layout import RunFolder
from yxanul.runfolder.lineage import (
    attempt_parent,
    begin_attempt,
    current_attempt,
    record_event,
)
from yxanul.runfolder.rows import Row, cut_rows, read_rows
from yxanul.train.request import RunRequest
from yxanul.train.session import Session
from yxanul.train.state import Position, load_weights, restore_state


def find_position(session: Session, request: RunRequest) -> Position:
    """Load what the request says into the session; return where the run stands.

    Checkpoints that do not verify are set aside, said, and recorded. All of them bad is a
    `CorruptCheckpointError`: a run never starts over by itself.
    """
    folder = session.folder
    if session.engine.processes.is_main:
        remove_leftovers(folder.checkpoints)
    session.engine.processes.barrier()
    attempt = current_attempt(folder.lineage)
    if request.resume not in ("auto", "never"):
        return _branch(session, _named_checkpoint(session, request.resume), attempt=attempt)
    checkpoint = _newest(session, attempt)
    if checkpoint is not None:
        position = _load(session, checkpoint)
        _refuse_other_stage(session, position)
    elif attempt > 0:
        # Killed before the attempt's first checkpoint: it begins again where it had begun.
        parent = attempt_parent(folder.lineage) or ""
        position = _load(session, load_checkpoint(folder.checkpoints / parent))
        position.attempt = attempt
    else:
        position = _beginning(session, request)
    _forget_after(session, position)
    return position


def _beginning(session: Session, request: RunRequest) -> Position:
    first = session.active[0]
    parent = None
    if request.init_from is not None:
        checkpoint = _starting_weights(request.init_from)
        load_weights(checkpoint, session.model)
        parent = str(checkpoint.info.path)
    elif first.index > 0:
        before = session.stages[first.index - 1].name
        raise UsageError(
            f"--stage {first.name} needs the weights of {before}: train that stage first into the "
            "same --out, or name weights with --init_from"
        )
    if session.engine.processes.is_main and not read_rows(session.folder.lineage):
        begin_attempt(session.folder.lineage, 0, parent=parent, reason="the run begins")
    return Position(
        stage=first.name,
        stage_step=0,
        step=first.first_step,
        tokens_seen=first.first_token,
        tokens_spent=0,
        attempt=0,
    )


def _starting_weights(model: Path) -> Checkpoint:
    """Load what --init_from names: a checkpoint, or a run folder's newest of its last attempt."""
    if (model / "manifest.json").is_file() and (model / "model.safetensors").is_file():
        return load_checkpoint(model)
    run = RunFolder(model)
    checkpoint, bad = newest_checkpoint(run.checkpoints, attempt=current_attempt(run.lineage))
    if checkpoint is not None and not bad:
        return checkpoint
    if bad:
        raise CorruptCheckpointError(
            f"--init_from {model}: {next(iter(bad.values()))}; name another of its checkpoints"
        )
    raise UsageError(
        f"--init_from {model}: there is neither a checkpoint nor a run folder with one; "
        "name a folder such as runs/NAME or runs/NAME/checkpoints/step-00001000-a0"
    )


def _newest(session: Session, attempt: int) -> Checkpoint | None:
    """Return the attempt's newest checkpoint that verifies; bad ones are set aside and said."""
    folder = session.folder
    checkpoint, bad = newest_checkpoint(folder.checkpoints, attempt=attempt)
    if bad and checkpoint is None:
        # None is set aside: the next start must find them and refuse as well.
        reasons = "; ".join(str(error) for error in bad.values())
        raise CorruptCheckpointError(
            f"no checkpoint in {folder.checkpoints} can be used: {reasons}. Nothing was started "
            "over; bring a good copy back, or begin anew with another --out"
        )
    for path, error in bad.items():
        session.progress.say(f"not used: {error}; falling back to the checkpoint before")
        if session.engine.processes.is_main:
            to = set_aside(path).name
            why = str(error)
            record_event(folder.lineage, "set aside", checkpoint=path.name, to=to, why=why)
    return checkpoint


def _named_checkpoint(session: Session, name: str) -> Checkpoint:
    inside = session.folder.checkpoints / name
    path = inside if inside.is_dir() else Path(name)
    if not path.is_dir():
        raise UsageError(
            f"--resume {name}: there is no such checkpoint in {session.folder.checkpoints}; "
            "it takes auto, never, or the name of one"
        )
    return load_checkpoint(path)


def _branch(session: Session, checkpoint: Checkpoint, *, attempt: int) -> Position:
    """Go on from a named checkpoint: in place if it is the newest, else as a new attempt."""
    newest = list_checkpoints(session.folder.checkpoints, attempt=attempt)
    position = _load(session, checkpoint)
    if newest and newest[-1].name == checkpoint.info.name:
        _forget_after(session, position)
        return position
    position.attempt = attempt + 1
    if session.engine.processes.is_main:
        begin_attempt(
            session.folder.lineage,
            position.attempt,
            parent=checkpoint.info.name,
            reason="resumed by name",
        )
    return position


def _load(session: Session, checkpoint: Checkpoint) -> Position:
    position = restore_state(checkpoint, session.model, optimizers=session.engine.optimizers)
    session.parent = checkpoint.info.name
    session.progress.say(f"going on from {checkpoint.info.path}")
    return position


def _refuse_other_stage(session: Session, position: Position) -> None:
    """A stage goes on from itself, or from the end of the stage before if its gate passed."""
    first = session.active[0]
    if len(session.active) > 1 or position.step > first.first_step or position.stage == first.name:
        return
    passed = {row["stage"] for row in read_rows(session.folder.gates) if row["verdict"] == "pass"}
    if position.step < first.first_step or position.stage not in passed:
        raise UsageError(
            f"{session.folder.root} stands at step {position.step} of {position.stage}, which has "
            f"not passed its gate; finish that stage before --stage {first.name}"
        )


def _forget_after(session: Session, position: Position) -> None:
    """Cut rows and scores written after the checkpoint: their steps will be done again."""
    if not session.engine.processes.is_main:
        return

    def is_kept(row: Row) -> bool:
        return row.get("attempt") != position.attempt or int(row.get("step", 0)) <= position.step

    cut_rows(session.folder.metrics, is_kept)
    cut_rows(session.folder.gates, is_kept)
    session.scorer.forget_after(step=position.step, attempt=position.attempt)
