"""Where to go on from.

The newest checkpoint that verifies, the one that was named, other weights, or the beginning.
"""

from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import torch

from yxanul.data.prepared.manifest import Manifest
from yxanul.errors import CorruptCheckpointError, CorruptDataError, UsageError, YxanulError
from yxanul.evaluate.models.hub import of_cache
from yxanul.runfolder.bringing import bring_checkpoint
from yxanul.runfolder.checkpoints import (
    CHECKPOINT_NAME,
    Checkpoint,
    list_checkpoints,
    load_checkpoint,
    load_state,
    newest_checkpoint,
)
from yxanul.runfolder.layout import RunFolder
from yxanul.runfolder.lineage import (
    BEGUN_AGAIN,
    BY_NAME,
    AttemptStart,
    attempt_parent,
    begin_attempt,
    current_attempt,
    first_parent,
    has_begun,
    named_last,
    record_event,
)
from yxanul.runfolder.lost import (
    ANEW,
    has_lost_checkpoints,
    refuse_lost_checkpoints,
    settle_losses,
)
from yxanul.runfolder.rows import Row, cut_rows, read_rows
from yxanul.runfolder.saving import remove_leftovers, set_aside
from yxanul.runfolder.scores import forget_after
from yxanul.runfolder.supervised import has_gone_on_from, tell_named
from yxanul.runfolder.verdicts import OVERRIDE
from yxanul.train.attempts.entering import (
    begin_by_name,
    enter_attempt,
    load_position,
    refuse_other_stage,
)
from yxanul.train.processes.machine import Machine
from yxanul.train.running.session import Session
from yxanul.train.starting.corpus import lacks_a_stage
from yxanul.train.starting.ended import own_checkpoints
from yxanul.train.starting.init_from import take_weights
from yxanul.train.starting.request import RunRequest
from yxanul.train.updates.state import Position, first_position, refuse_other_data

Bad = dict[Path, CorruptCheckpointError]
"""Checkpoints that do not verify, and why."""


def find_position(session: Session, request: RunRequest) -> Position:
    """Load what the request says into the session; return where the run stands.

    Checkpoints that do not verify are set aside, said, and recorded; where an attempt has none that
    does, it goes on from the checkpoint that it began from. All of them bad, or the last attempt's
    gone, is a `CorruptCheckpointError`: a run never starts over by itself. So is one that is named
    and does not verify: no other one stands in for it unasked.
    """
    folder = session.folder
    if session.engine.processes.is_main:
        remove_leftovers(folder.checkpoints)
    attempt, is_begun = current_attempt(folder.lineage), has_begun(folder.lineage)
    named = named_checkpoint(folder, request)
    is_newest = named in list_checkpoints(folder.checkpoints, attempt=attempt)[-1:]
    begins_again, bad = False, Bad()
    session.engine.processes.barrier()  # all ranks have read it before one may begin another
    if named is not None and not is_newest:
        position = begin_by_name(session, named, attempt=attempt)
    elif named is not None:
        position = load_position(session, load_checkpoint(named))
        refuse_other_stage(session, position)
    else:
        checkpoint, bad = _newest(session, request, attempt=attempt)
        if checkpoint is not None:
            position = load_position(session, checkpoint)
        else:
            # Killed before the attempt's first checkpoint: it begins again where it had begun.
            position = enter_attempt(session) if is_begun else _beginning(session, request)
            begins_again = bool(bad) or has_lost_checkpoints(folder)
        refuse_other_stage(session, position)
    if is_begun:
        _refuse_other_weights(session, request)
    if session.engine.processes.is_main:
        if begins_again:
            # A person deleted them, or they are bad: what tells of them is no loss from now on.
            settle_losses(folder, BEGUN_AGAIN)
        for path, error in bad.items():  # it is known where the run goes on
            set_aside(path, error, lineage=folder.lineage)
        if named is not None and named.name != named_last(folder.lineage):
            record_event(folder.lineage, BY_NAME, checkpoint=named.name)  # no attempt has told it
        if named is not None:
            tell_named(named)
    _forget_after(session, position)
    return position


def refuse_other_tokens(
    held: Manifest, *, folder: RunFolder, request: RunRequest, has_ended: bool
) -> None:
    """Refuse prepared data that the checkpoint to go on from was not trained on.

    Before it is brought, and before RUN/data.json leads to it. Where what is asked for `has_ended`,
    an earlier stage's data may lie there alone: nothing is trained on it.
    """
    named = named_checkpoint(folder, request)
    paths = own_checkpoints(folder) if named is None else [named]
    data = {name: source.train.sha256 for name, source in held.sources.items()}
    for path in reversed(paths):
        with suppress(CorruptCheckpointError):  # told, or refused, where it is to be loaded
            state = load_state(path)
            trained = state.get("data")
            if has_ended and isinstance(trained, dict) and lacks_a_stage(held, folder):
                data = trained | data
            refuse_other_data(path, state, data=data)
            return


def _beginning(session: Session, request: RunRequest) -> Position:
    """Stand at the run's first step, with new weights or those of --init_from; record it."""
    first = session.active[0]
    parent = None
    torch.manual_seed(session.config.optimization.seed)  # as every later beginning does
    if request.init_from is not None:
        try:
            parent = str(take_weights(Path(request.init_from), session.model))
        except YxanulError as error:
            raise type(error)(f"--init_from {request.init_from}: {error}") from error
        mirror = session.config.optimization.checkpoint.mirror
        if mirror is not None and of_cache(Path(parent)) is None:
            session.progress.say(
                f"--init_from: {parent} is not copied to {mirror}. A gate, or numbers that diverge,"
                " may lead back to it: another machine then needs it at the same path"
            )
    if session.engine.processes.is_main:
        start = AttemptStart(0, step=first.first_step, parent=parent, reason="the run begins")
        begin_attempt(session.folder.lineage, start)
    session.engine.processes.barrier()
    return first_position(first)


def _newest(
    session: Session, request: RunRequest, *, attempt: int
) -> tuple[Checkpoint | None, Bad]:
    """Return the attempt's newest checkpoint that verifies, and newer ones that do not: said."""
    folder = session.folder
    checkpoint, bad = newest_checkpoint(folder.checkpoints, attempt=attempt)
    has_parent = attempt > 0 and attempt_parent(folder.lineage) is not None
    if bad and checkpoint is None and not has_parent:
        # None is set aside: the next start must find them and refuse as well.
        reasons = "; ".join(str(error) for error in bad.values())
        raise CorruptCheckpointError(
            f"no checkpoint in {folder.checkpoints} can be used: {reasons}. Nothing was started "
            f"over; bring a good copy back, or {ANEW}"
        )
    if checkpoint is None and not bad and request.resume != "never":
        refuse_lost_checkpoints(folder)
    session.engine.processes.barrier()  # all ranks have looked before one sets any aside
    for error in bad.values():
        session.progress.say(f"not used: {error}; falling back to the checkpoint before")
    return checkpoint, bad


def begins_by_name(folder: RunFolder, request: RunRequest) -> bool:
    """Tell whether the run is to go on from the checkpoint that --resume names, if it names one.

    Not where it has done so already: gates may have begun attempts since, and the checkpoint may be
    gone. Where the last attempt's are all gone, that is gone too. --fresh asks for it once more,
    until a start under the same supervisor has done it.
    """
    if not request.names_checkpoint:
        return False
    path = possible_checkpoint(folder, request.resume)
    if named_last(folder.lineage) != path.name or has_lost_checkpoints(folder):
        return True
    return request.fresh and not has_gone_on_from(path)


def with_name_settled(request: RunRequest, folder: RunFolder, *, machine: Machine) -> RunRequest:
    """Return the request with `auto` for a checkpoint from which the run has gone on already.

    So the same command again goes on with what it had begun.
    """
    if not request.names_checkpoint:
        return request
    # Each machine may have a supervisor, and the main rank's alone hears of it.
    if machine.processes.of_main(int(begins_by_name(folder, request)), machine.device):
        return request
    machine.progress.say(
        f"--resume {request.resume}: the run has gone on from there already, and goes on where it "
        "stands; with --fresh it begins from there once more"
    )
    return replace(request, resume="auto")


def named_checkpoint(folder: RunFolder, request: RunRequest) -> Path | None:
    """Return the checkpoint of this run that --resume names, by its name or its path, or None."""
    if not request.names_checkpoint:
        return None
    path = possible_checkpoint(folder, request.resume)
    if not path.is_dir():
        raise _no_checkpoint(folder, request.resume)
    return path


def bring_named(address: str, folder: RunFolder, *, request: RunRequest, machine: Machine) -> None:
    """Bring the checkpoint that --resume names from the run's mirror, where it is not here.

    A machine that took another's place has the newest one alone.
    """
    if begins_by_name(folder, request):
        path = possible_checkpoint(folder, request.resume)
        if not path.exists():
            bring_checkpoint(address, folder, name=path.name, say=machine.heard)


def possible_checkpoint(folder: RunFolder, name: str) -> Path:
    """Return where the checkpoint that --resume names lies, if it is there.

    What is no checkpoint's name, or a path to another folder, is a `UsageError`.
    """
    path = folder.checkpoints / Path(name).name
    is_here = Path(name).name == name or Path(name).resolve() == path.resolve()
    if not is_here or not CHECKPOINT_NAME.fullmatch(path.name):
        raise _no_checkpoint(folder, name)
    return path


def _no_checkpoint(folder: RunFolder, name: str) -> UsageError:
    return UsageError(
        f"--resume {name}: there is no such checkpoint in {folder.checkpoints}; it takes auto, "
        "never, or the name of one (weights of another run: --init_from)"
    )


def _refuse_other_weights(session: Session, request: RunRequest) -> None:
    """--init_from begins a run; it does not change one that has begun."""
    if request.init_from is not None and first_parent(session.folder.lineage) is None:
        raise UsageError(
            f"--init_from {request.init_from}: {session.folder.root} holds a run that was begun "
            "from new weights; choose another --out"
        )


def _forget_after(session: Session, position: Position) -> None:
    """Cut rows and scores written after the checkpoint: their steps will be done again."""
    if not session.engine.processes.is_main:
        return

    def is_kept(row: Row) -> bool:
        step = row.get("step")
        if not isinstance(step, int):
            raise CorruptDataError(
                f"{session.folder.root} has a row without a step in metrics.jsonl, gates.jsonl or "
                "samples.jsonl; delete that line"
            )
        return row.get("attempt") != position.attempt or step <= position.step

    for row in read_rows(session.folder.gates):
        if row.get("row") == OVERRIDE and not is_kept(row):
            session.progress.say(
                f"what {row.get('by')} decided on the gate of {row.get('stage')} is gone with the "
                f"checkpoint that it was about: {row.get('verdict')} ({row.get('reason')}); it may "
                "be decided again when that gate has been asked"
            )
    cut_rows(session.folder.metrics, is_kept)
    cut_rows(session.folder.gates, is_kept)
    cut_rows(session.folder.samples, is_kept)
    forget_after(session.folder.scores, step=position.step, attempt=position.attempt)
