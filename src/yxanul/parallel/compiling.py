"""What torch's compiler must be told of a run: how many graphs it may make, and who exchanges when.

The one idea: what is compiled for fixed shapes needs a graph for each of them. torch gives up after
eight and computes everything else without a graph, with a warning that nobody reads; so the limit
is taken from the run, and reaching it is an error. torch keeps these settings per thread: the one
that trains sets them.
"""

import os
import shutil
import signal
import sys
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from yxanul.config.schema import StageConfig
from yxanul.errors import InfrastructureError

_LEEWAY = 2
"""Graphs per shape that are allowed; one was ever needed, checkpointed or not."""
_ROOM_BYTES = 1 << 30
"""A few MB a graph are needed, and the checkpoints come to the same disk."""


def forward_shapes(
    stages: Collection[StageConfig], *, micro_batch_tokens: int, processes: int
) -> set[tuple[int, int]]:
    """Return every (rows, seq) of a rank's forward passes: an update's last pass may be smaller."""
    shapes = set()
    for stage in stages:
        for phase in stage.training.seq_len_curriculum:
            rows = stage.training.batch_tokens // phase.seq_len // processes
            most = max(1, micro_batch_tokens // phase.seq_len)
            shapes |= {(count, phase.seq_len) for count in (min(rows, most), rows % most) if count}
    return shapes


def keep_compiled(place: Path) -> None:
    """Let torch keep what it compiles in `place`, on the run's disk, for the run's next start.

    A place that the user has named (TORCHINDUCTOR_CACHE_DIR) is left, and so is torch's own, below
    the system's temporary folder, where the run's disk cannot be written to, has little room or
    lets no program run: a file that could not be written or loaded would end the run.
    """
    root = next(folder for folder in place.absolute().parents if folder.is_dir())
    runs_programs = not os.statvfs(root).f_flag & getattr(os, "ST_NOEXEC", 0)
    has_room = shutil.disk_usage(root).free >= _ROOM_BYTES
    if os.access(root, os.W_OK) and runs_programs and has_room:
        os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(place.absolute()))


def allow_graphs(shapes: int) -> None:
    """Let each compiled part have a graph for so many shapes; one too many is an error from now on.

    `naming_recompiles` says what the error means.
    """
    from torch._dynamo import config  # seconds, which a run that compiles nothing need not spend

    needed = _LEEWAY * shapes
    for limit in ("recompile_limit", "accumulated_recompile_limit"):
        if hasattr(config, limit):  # torch names them anew from time to time
            setattr(config, limit, max(getattr(config, limit), needed))
    if hasattr(config, "fail_on_recompile_limit_hit"):
        config.fail_on_recompile_limit_hit = True


def graphs_made() -> int:
    """Return how many graphs torch.compile has made in this process; it is not loaded for that."""
    dynamo = sys.modules.get("torch._dynamo.utils")
    return 0 if dynamo is None else int(dynamo.counters["stats"]["unique_graphs"])


def start_compilers() -> None:
    """Start the processes in which torch compiles for a card, deaf to SIGINT and SIGTERM.

    torchrun hands a stop on to each rank's whole group, and a script's supervisor to all that the
    script has started: the rank ends its step and saves, for which it may have to compile.
    """
    # What is blocked here is blocked in whatever they are and start; a stop that comes meanwhile is
    # heard afterwards. They are deaf to torch's own end of them as well, which is a SIGTERM: one
    # that compiles when this process leaves ends its graph first, and torch waits for that, up to
    # 300 s, and says so if it takes longer.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM))
    try:
        from torch._inductor.async_compile import AsyncCompile

        AsyncCompile.warm_pool()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def leave_blocks_whole() -> None:
    """Let several processes compile a block as one does, into one graph."""
    from torch._dynamo import config

    # torch cuts what is compiled under DDP wherever a bucket of gradients is full, so that their
    # exchange can begin before the backward pass has ended. Between blocks it begins so anyway.
    if hasattr(config, "optimize_ddp"):
        config.optimize_ddp = False


@contextmanager
def naming_recompiles() -> Iterator[None]:
    """Turn one graph too many into an `InfrastructureError`: another start counts anew."""
    try:
        yield
    except Exception as error:
        # By name: its module is a part of the compiler, which most runs never load.
        if type(error).__name__ != "FailOnRecompileLimitHit":
            raise
        raise InfrastructureError(
            "torch.compile made more graphs of one part of the model than the run has shapes, and "
            "would go on without any, slowly; start the same command again, which goes on from "
            "the last checkpoint with no graph made yet, or begin a run with compute.compile=off"
        ) from error
