"""From a configuration to a session; nothing is trained here."""

import hashlib
import math
from collections.abc import Callable, Sequence

import torch

from yxanul.config.schema import RunConfig
from yxanul.curriculum.course import read_course
from yxanul.curriculum.stages import StagePlan
from yxanul.data.tokenizer import load_tokenizer
from yxanul.errors import InfrastructureError, StoppedOnRequest
from yxanul.failpoints import failpoint
from yxanul.hardware.choices import DTYPES
from yxanul.hardware.device import cpu_flags
from yxanul.hardware.memory import keep_freed_memory
from yxanul.hardware.peak import peak_flops
from yxanul.parallel.compiling import allow_graphs, forward_shapes, keep_compiled
from yxanul.runfolder.layout import RunFolder
from yxanul.runfolder.lineage import current_attempt
from yxanul.signals import StopRequest
from yxanul.train.outward.mirroring import Mirroring
from yxanul.train.outward.saver import Saver
from yxanul.train.processes.budget import BudgetClock
from yxanul.train.processes.machine import Machine
from yxanul.train.running.session import Session
from yxanul.train.safety.ending import write_ending
from yxanul.train.safety.vigil import Vigil
from yxanul.train.safety.watchdog import Watchdog
from yxanul.train.scoring.answering import Answering
from yxanul.train.scoring.held_out import Scorer
from yxanul.train.scoring.skills import SkillScorer
from yxanul.train.starting.benchmarks import gather_benchmarks
from yxanul.train.starting.corpus import Corpus, held_out_documents
from yxanul.train.starting.request import RunRequest
from yxanul.train.updates.engine import build_engine


def build_session(
    config: RunConfig, corpus: Corpus, *, folder: RunFolder, request: RunRequest, machine: Machine
) -> Session:
    """Build model, optimizers, scorer and clockwork, with new weights."""
    compute = config.optimization.compute
    torch.manual_seed(config.optimization.seed)
    dtype = DTYPES[compute.precision]
    if compute.compile != "off":
        _allow_graphs(config, processes=machine.processes.world_size)
    model, engine = build_engine(
        config.model,
        config.optimization,
        processes=machine.processes,
        device=machine.device,
    )
    stages = read_course(config, folder, attempt=current_attempt(folder.lineage))
    active = tuple(plan for plan in stages if request.stage in (None, plan.name))
    held_out = held_out_documents(config, corpus, stages=stages)
    tokenizer = load_tokenizer()
    limit = math.inf if request.max_steps is None else active[0].first_step + request.max_steps
    mirroring = open_mirroring(config, folder, machine=machine)
    watchdog = _watchdog(config, folder, machine=machine)
    return Session(
        config=config,
        folder=folder,
        stages=stages,
        active=active,
        step_limit=limit,
        corpus=corpus,
        model=model,
        engine=engine,
        tokenizer=tokenizer,
        answering=Answering(
            model,
            tokenizer,
            processes=machine.processes,
            device=machine.device,
            waiting=watchdog.waiting,
            heed=_looking_up(watchdog, machine.stop),
        ),
        scorer=Scorer(folder.scores, held_out, say=machine.progress.say),
        skills=_skills(active, limit, corpus=corpus, folder=folder, machine=machine),
        watchdog=watchdog,
        vigil=Vigil(config.optimization.numerics),
        mirroring=mirroring,
        saver=Saver(
            folder.checkpoints,
            config.optimization.checkpoint,
            say=machine.progress.say,
            written=mirroring.offer,
        ),
        budget=BudgetClock(folder, config, machine=machine),
        progress=machine.progress,
        stop=machine.stop,
        peak_flops=peak_flops(machine.device, dtype),
        parent=None,
    )


def _allow_graphs(config: RunConfig, *, processes: int) -> None:
    """Let the compiler make a graph for every shape of the whole run."""
    tokens = config.optimization.compute.micro_batch_tokens
    assert tokens is not None  # `freeze_compute` has chosen
    allow_graphs(len(forward_shapes(config.stages, micro_batch_tokens=tokens, processes=processes)))


def open_mirroring(
    config: RunConfig, folder: RunFolder, *, machine: Machine, is_complete: bool = False
) -> Mirroring:
    """Return what copies the run's checkpoints; nothing is copied by ranks but the main one.

    Of a run that `is_complete` the copy is all that is waited for, and a stop ends the waiting.
    """
    settings = config.optimization.checkpoint
    return Mirroring(
        settings.mirror if machine.processes.is_main else None,
        folder,
        every_s=settings.mirror_every_s,
        say=machine.progress.say,
        gives_up=lambda: is_complete and machine.stop.asked,
    )


def _watchdog(config: RunConfig, folder: RunFolder, *, machine: Machine) -> Watchdog:
    """Return what ends this process when it hangs; the main rank writes down that it did."""

    def end(reason: str) -> None:
        if machine.processes.is_main:
            write_ending(folder, {"code": InfrastructureError.exit_code, "reason": reason})

    return Watchdog(
        config.optimization.watch.hang_s,
        stacks=folder.stacks(machine.processes.rank),
        say=machine.progress.say,
        end=end,
    )


def _looking_up(watchdog: Watchdog, stop: StopRequest) -> Callable[[bool], None]:
    """Return what is done before each batch of a score."""

    def heed(may_leave: bool) -> None:
        watchdog.advance()
        failpoint("score.batch")
        if may_leave and stop.asked:
            raise StoppedOnRequest(f"stopped by {stop.signal_name} in the middle of a score")

    return heed


def _skills(
    active: Sequence[StagePlan],
    limit: float,
    *,
    corpus: Corpus,
    folder: RunFolder,
    machine: Machine,
) -> SkillScorer:
    """Read the items of the stages that reach their gates; other ranks score nothing."""
    benchmarks = {}
    if machine.processes.is_main:
        benchmarks = gather_benchmarks(
            [plan.config for plan in active if plan.last_step <= limit],
            corpus,
            folder=folder,
            trained=list(corpus.manifest.stages),
            say=machine.heard,
        )
    machine.processes.barrier()
    return SkillScorer(folder, benchmarks=benchmarks, say=machine.progress.say)


def prepare_process(config: RunConfig, folder: RunFolder | None = None) -> str:
    """Do what must precede the first large allocation, compilation and product that is timed.

    What is compiled for a run is kept beside its folder. Returns in a phrase what came of the wish
    to keep freed memory.
    """
    if folder is not None and config.optimization.compute.compile != "off":
        # Beside the run: it is a program, and a run folder that somebody else made brings none. Of
        # each kind of machine its own: a disk may move to a CPU that lacks what was compiled for.
        kind = hashlib.sha256(" ".join(sorted(cpu_flags())).encode()).hexdigest()[:12]
        beside = folder.root.absolute().parent / ".yxanul-cache"
        keep_compiled(beside / f"torch-{torch.__version__}-{kind}")
    torch.set_float32_matmul_precision(config.optimization.compute.float32_matmul_precision)
    if not config.optimization.compute.keep_freed_memory:
        return "off"
    return keep_freed_memory()
