"""How many processes work beside this one, and that none of them outlives it."""

from __future__ import annotations

import math
import multiprocessing
import os
import signal
import threading
from pathlib import Path

# Each holds its own words and tables, up to half a gigabyte.
_MOST_PROCESSES = 32
_CGROUP = Path("/sys/fs/cgroup")
"""Where Linux says what a container may use; what is not there is not limited."""


def usable_cores() -> int:
    """Return the cores that this process may use, 32 at most.

    A container may see all cores and be given the time of a few (docker --cpus): those count.
    """
    has_affinity = hasattr(os, "sched_getaffinity")  # not on macOS
    cores = len(os.sched_getaffinity(0)) if has_affinity else os.cpu_count() or 1
    return min(_MOST_PROCESSES, cores, _quota() or cores)


def _quota() -> int | None:
    """Return the cores whose time this container is given, rounded up; None = no limit is set."""
    for names in (("cpu.max",), ("cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us")):  # v2, v1
        files = [_CGROUP / name for name in names]
        if all(file.is_file() for file in files):
            quota, period = " ".join(file.read_text() for file in files).split()
            is_limit = quota not in ("max", "-1")
            return math.ceil(int(quota) / int(period)) if is_limit else None
    return None


def end_with_parent() -> None:
    """Leave Ctrl-C to the parent, and end this process as soon as the parent has ended.

    For the processes of a pool: the terminal sends Ctrl-C to all of them, and SIGKILL ends their
    parent without a word to them.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None  # this runs in a process of a pool
    threading.Thread(target=_leave_after, args=(parent,), daemon=True).start()


def _leave_after(parent: multiprocessing.process.BaseProcess) -> None:
    parent.join()
    os._exit(1)
