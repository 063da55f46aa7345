"""A run from the first check to the exit record: the one entry that the command line calls."""

import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch

from yxanul.config.deepspeed import read_deepspeed
from yxanul.config.schema import RunConfig
from yxanul.curriculum.stages import longest_seq_len
from yxanul.errors import GateStopError, InfrastructureError, YxanulError
from yxanul.hardware.choices import foreign_card, pick_device, settle_compute
from yxanul.hardware.doctor import summarise
from yxanul.hardware.failures import naming_failed_hardware
from yxanul.hardware.memory import naming_exhaustion
from yxanul.parallel.compiling import naming_recompiles
from yxanul.parallel.processes import (
    Processes,
    joined_processes,
    launched_process,
    local_rank,
    naming_lost_ranks,
)
from yxanul.parallel.wrapping import refuse_missing_engine
from yxanul.plan.memory import FP32_BYTES
from yxanul.report.write import write_report
from yxanul.runfolder.durable import reading
from yxanul.runfolder.layout import RunFolder
from yxanul.runfolder.lineage import has_begun
from yxanul.runfolder.rows import read_rows
from yxanul.runfolder.supervised import tell_run_folder
from yxanul.signals import stop_on_signals
from yxanul.train.attempts.place import check_folder, refuse_missing_start
from yxanul.train.attempts.resume import (
    bring_named,
    find_position,
    named_checkpoint,
    refuse_other_tokens,
    with_name_settled,
)
from yxanul.train.foretelling.gates import unprovable
from yxanul.train.foretelling.repetition import Repetition, repetitions, warnings
from yxanul.train.loop import TrainingLoop
from yxanul.train.outward.progress import RunProgress
from yxanul.train.outward.trackers import open_trackers, refuse_missing_trackers
from yxanul.train.probing.begun import replan_epochs, with_begun_budgets
from yxanul.train.probing.frozen import (
    Frozen,
    edited_config,
    freeze_config,
    keep_config,
)
from yxanul.train.processes.agreement import common_settings, refuse_disagreement, refusing_together
from yxanul.train.processes.links import measure_links
from yxanul.train.processes.machine import (
    Machine,
    Start,
    record_environment,
    refuse_lost_card,
    refuse_missing_card,
)
from yxanul.train.running.session import Session
from yxanul.train.running.setup import build_session, open_mirroring, prepare_process
from yxanul.train.running.stage_data import padding
from yxanul.train.safety.ending import CARD_ADVICE, MEMORY_ADVICE, owned
from yxanul.train.starting.copies import bring_run
from yxanul.train.starting.corpus import Corpus, keep_place, prepare_corpus, prepared_root
from yxanul.train.starting.ended import ended_outcome, finished_outcome, gate_stop
from yxanul.train.starting.init_from import with_weights_here
from yxanul.train.starting.refusals import refuse_early
from yxanul.train.starting.request import RunOutcome, RunRequest
from yxanul.train.starting.settings import read_config
from yxanul.train.updates.state import Position


@naming_failed_hardware(CARD_ADVICE)  # also before there is a record, as where the ranks first meet
@reading()  # also before there is a record
def start_run(request: RunRequest) -> RunOutcome:
    """Do what the request says, from where its run folder stands.

    RUN/exit.json is left behind whatever happens once the ranks have met. Errors are
    `YxanulError`s with their exit codes; anything else is a bug.
    """
    config = read_config(request)
    folder = RunFolder(request.out or default_out(request, config))
    device = _settled_device(config, folder, request=request)
    _refuse_engine(config, device)
    refuse_missing_trackers(config.optimization.logging.trackers)
    by_deepspeed = config.optimization.compute.engine == "deepspeed"
    with joined_processes(device, even_alone=by_deepspeed) as processes:
        _enter(config, folder, request=request, processes=processes)
        processes.barrier()
        progress = RunProgress(visible=processes.is_main)
        is_done = partial(_is_done, config, folder, request=request)
        with ExitStack() as at_end:
            try:
                with (
                    # Until it is recorded how the run ended: torchrun sends SIGTERM to those that a
                    # lost rank leaves, while they write that down.
                    stop_on_signals() as stop,
                    owned(
                        folder, processes, stop=stop, say=progress.say, is_done=is_done
                    ) as record,
                    # Before it is recorded how the run ended.
                    naming_failed_hardware(CARD_ADVICE),
                    reading(),
                    naming_lost_ranks(processes),
                    naming_exhaustion(MEMORY_ADVICE),
                    naming_recompiles(),
                ):
                    machine = Machine(processes, device, progress, stop)
                    outcome = _train(
                        config, folder, request=request, machine=machine, at_end=at_end
                    )
                    record["outcome"] = outcome.as_json()
                    del record["outcome"]["report"]  # it is written afterwards, or cannot be
            except GateStopError:
                if processes.is_main and (page := _write_report(folder, say=progress.say)):
                    progress.say(f"report: {page}")
                raise
            # After exit.json, which the page tells of.
            if processes.is_main and (page := _write_report(folder, say=progress.say)):
                outcome.report = str(page)
            return outcome


def _write_report(folder: RunFolder, *, say: Callable[[str], None]) -> Path | None:
    """Write the report of a run that has a row; return where it lies.

    How the run ended is written down by now: that its page could not be written is told, and takes
    the place of nothing.
    """
    try:
        return write_report(folder.root) if read_rows(folder.metrics) else None
    except (YxanulError, OSError) as error:
        say(f"report not written: {error}")
    except Exception as error:  # noqa: BLE001  (a bug of ours: it is seen whole)
        traceback.print_exception(error)
        say(f"report not written: internal error: {type(error).__name__}: {error}")
    return None


def default_out(request: RunRequest, config: RunConfig) -> Path:
    """Return runs/<config>-<model>."""
    return Path("runs") / f"{request.config_dir.resolve().name}-{config.model.name}"


def _settled_device(config: RunConfig, folder: RunFolder, *, request: RunRequest) -> torch.device:
    """Return this process's device; refuse a card that is lost, or that nothing here runs on.

    No process has met another one by then. That a card failed is written down all the same.
    """
    me = launched_process()
    try:
        refuse_missing_card(folder)
        device = pick_device(local_rank())
        if (error := foreign_card(device)) is not None:
            raise error
        if config.optimization.compute.engine == "deepspeed" or me.world_size > 1:
            # Neither the engine's settings nor how ranks meet is judged by the CPU beside such a
            # card.
            refuse_lost_card(folder, device=device)
    except InfrastructureError as error:  # which is no refusal of the command
        is_done = partial(_is_done, config, folder, request=request)
        say = RunProgress(visible=me.is_main).say
        with stop_on_signals() as stop:
            _enter(config, folder, request=request, processes=me)
            with owned(folder, me, stop=stop, say=say, is_done=is_done):
                raise error
    return device


def _enter(
    config: RunConfig, folder: RunFolder, *, request: RunRequest, processes: Processes
) -> None:
    """Come to the run folder, if it may be the one, and tell the supervisor which it is."""
    if processes.is_main:
        check_folder(config, folder, request=request)
    tell_run_folder(folder.root.resolve())
    if processes.is_main:
        folder.create()


def _is_done(config: RunConfig, folder: RunFolder, *, request: RunRequest) -> bool:
    return finished_outcome(config, folder, request=request) is not None


def _refuse_engine(config: RunConfig, device: torch.device) -> None:
    """Refuse an engine that is not there, or whose own settings contradict the run's."""
    optimization = config.optimization
    refuse_missing_engine(optimization.compute)
    if optimization.compute.engine == "deepspeed":
        longest = longest_seq_len(config.stages)
        settled = settle_compute(optimization.compute, device, longest_seq_len=longest)
        read_deepspeed(optimization, precision=settled.precision)


def _train(
    config: RunConfig,
    folder: RunFolder,
    *,
    request: RunRequest,
    machine: Machine,
    at_end: ExitStack,
) -> RunOutcome:
    """Train; what must follow when the run folder is as it will stay goes to `at_end`."""
    malloc = prepare_process(config, folder)
    request = _with_places_settled(config, folder, request=request, machine=machine)
    ended, needs_data = _find_end(config, folder, request=request, machine=machine)
    has_ended = ended is not None
    refuse_early(
        config, folder, request=request, machine=machine, malloc=malloc, has_ended=has_ended
    )
    planned = request.stage or config.stages[0].name
    freeze = partial(freeze_config, machine=machine, stage=request.stage, has_ended=has_ended)
    if ended is not None and not needs_data:
        if request.num_epochs is not None:  # which nobody can count without the data
            config = with_begun_budgets(config, folder, stages={planned})
        frozen = freeze(config, folder)
        return _leave(frozen, folder, ended=ended, machine=machine, at_end=at_end)
    check = partial(refuse_other_tokens, folder=folder, request=request, has_ended=has_ended)
    corpus = prepare_corpus(config, folder, machine=machine, check=check)
    with refusing_together(machine.processes, device=machine.device):
        check(corpus.manifest)
    if (epochs := request.num_epochs) is not None:
        config = replan_epochs(config, planned, epochs=epochs, manifest=corpus.manifest)
    wish = config.optimization.compute
    frozen = freeze(config, folder, named=named_checkpoint(folder, request))
    config = frozen.config
    if machine.processes.is_main:
        # Not before: of what was refused nothing is to be read.
        keep_place(corpus, folder, has_ended=has_ended)
        if frozen.changes is None and not has_ended:
            keep_config(frozen, folder, machine=machine)
    if ended is not None:
        return _leave(frozen, folder, ended=ended, machine=machine, at_end=at_end)
    _refuse_other_ranks(config, corpus, request=request, machine=machine)
    session = build_session(config, corpus, folder=folder, request=request, machine=machine)
    links = measure_links(machine.processes, machine.device)
    if not has_begun(folder.lineage):  # else another branch may be stood on than now
        _read_together(session)
    position = _stand(session, request)
    read = _read_together(session)
    if machine.processes.is_main:
        # Not before: what is refused leaves the run with the settings that it had.
        session.config_sha256 = keep_config(frozen, folder, machine=machine)
        start = Start(request.command, malloc, session.peak_flops, links, wish)
        for line in _opening(session, start, read=read, machine=machine):
            machine.progress.say(line)
    names = config.optimization.logging.trackers if machine.processes.is_main else ()
    at_end.callback(session.mirroring.publish_ending)
    with (
        open_trackers(names, folder, step=position.step, say=machine.progress.say) as trackers,
        session.mirroring,
        session.watchdog,
    ):
        return TrainingLoop(session, position, trackers).run()


def _find_end(
    config: RunConfig, folder: RunFolder, *, request: RunRequest, machine: Machine
) -> tuple[RunOutcome | None, bool]:
    """Return what has ended, None: nothing, and whether there is data to be read or prepared.

    As the main rank finds: one reads the checkpoints, and no rank leaves what others go on with.
    """
    found: tuple[RunOutcome | None, bool] = (None, True)
    with refusing_together(machine.processes, device=machine.device):
        if machine.processes.is_main:
            ended = ended_outcome(config, folder, request=request)
            # Nothing of what has ended reads the data, and preparing it may take hours.
            found = ended, ended is None or prepared_root(config, folder) is not None
    return machine.processes.told_by_main(found, machine.device)


def _leave(
    frozen: Frozen,
    folder: RunFolder,
    *,
    ended: RunOutcome,
    machine: Machine,
    at_end: ExitStack,
) -> RunOutcome:
    """Keep the settings and copy what the start before could not.

    Return what was reached, or raise the gate's stop.
    """
    # Copying may take longer than ranks that a gate stops wait for an error of this one.
    machine.processes.tell_stopping()
    if machine.processes.is_main:
        keep_config(frozen, folder, machine=machine)
    if not ended.is_stopped:
        machine.progress.say(f"{folder.root} is complete already; nothing is trained again")
    with open_mirroring(frozen.config, folder, machine=machine, is_complete=True) as mirroring:
        at_end.callback(mirroring.publish_ending)
    if ended.is_stopped:
        last, mirror = ended.stages[-1], frozen.config.optimization.checkpoint.mirror
        raise gate_stop(last.name, last.why, folder=folder, mirror=mirror)
    return ended


def _with_places_settled(
    config: RunConfig, folder: RunFolder, *, request: RunRequest, machine: Machine
) -> RunRequest:
    """Bring the run that goes on; return the request with the places from which it does."""
    if machine.processes.is_main:
        _look_at_folder(config, folder, request=request, machine=machine)
    machine.processes.barrier()
    with refusing_together(machine.processes, device=machine.device):
        request = with_name_settled(request, folder, machine=machine)
        return with_weights_here(request, folder, say=machine.heard)


def _look_at_folder(
    config: RunConfig, folder: RunFolder, *, request: RunRequest, machine: Machine
) -> None:
    """Tell what was edited, bring what lies at the mirror alone, refuse what leads nowhere."""
    if (edited := edited_config(folder)) is not None:
        machine.progress.say(edited)
    is_done = _is_done(config, folder, request=request)
    bring_run(config, folder, request=request, machine=machine, is_done=is_done)
    if (address := config.optimization.checkpoint.mirror) is not None:
        bring_named(address, folder, request=request, machine=machine)
    refuse_missing_start(config, folder, request=request)


def _opening(
    session: Session, start: Start, *, read: list[Repetition], machine: Machine
) -> Iterator[str]:
    """Write down what this start is; yield what a person is told of it before the first step."""
    parameters = sum(p.numel() for p in session.model.parameters())
    changes, features = record_environment(
        session.config, session.folder, start=start, machine=machine
    )
    for change in changes:
        yield f"this start differs from the run's last one: {change}"
    yield from summarise(features)
    if start.links is not None:
        yield from start.links.sentences(FP32_BYTES * parameters)
    yield from (*padding(session), *warnings(read), *unprovable(session))
    yield f"{session.config.model.name}: {parameters:,} parameters"


def _read_together(session: Session) -> list[Repetition]:
    """Return what is read how often; refuse a stage without text, which settings can mend.

    Of a run that begins before it is written down as begun, of another before its settings are.
    """
    ranks = session.engine.processes
    with refusing_together(ranks, device=session.engine.device):
        return repetitions(session) if ranks.is_main else []


def _stand(session: Session, request: RunRequest) -> Position:
    """Return where the run stands, which all ranks must have found alike."""
    position, engine = find_position(session, request), session.engine
    place = {"where the run stands": asdict(position)}
    refuse_disagreement(place, engine.processes)
    return position


def _refuse_other_ranks(
    config: RunConfig, corpus: Corpus, *, request: RunRequest, machine: Machine
) -> None:
    """Refuse to train with ranks that were started with something else."""
    mine: dict[str, dict[str, Any]] = {
        "the settings": common_settings(config),  # as they are frozen, with epochs counted
        "the data": corpus.identity(list(corpus.manifest.stages)),
        # Of the hub's the commit: a machine may have found a newer one.
        "the weights to begin with": {"--init_from": Path(request.init_from or "").name},
    }
    refuse_disagreement(mine, machine.processes)
