"""What cores and memory this process may use: the machine's, or what a container is given."""

from __future__ import annotations

import math
import os
from pathlib import Path

_CGROUP = Path("/sys/fs/cgroup")
"""Where Linux says what a container may use; what is not there is not limited."""


def usable_cores() -> int:
    """Return the cores that this process may run on, at least one.

    A container may see all cores and be given the time of a few (docker --cpus): those count.
    """
    has_affinity = hasattr(os, "sched_getaffinity")  # not on macOS
    cores = len(os.sched_getaffinity(0)) if has_affinity else os.cpu_count() or 1
    return min(cores, _quota() or cores)


def usable_memory() -> int:
    """Return the bytes that this process may use, and those beside it in its container."""
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min(machine, _container_bytes() or machine)


def _container_bytes() -> int | None:
    """Return the bytes that this container may use; None = no limit is set."""
    for name in ("memory.max", "memory/memory.limit_in_bytes"):  # v2, v1
        file = _CGROUP / name
        if file.is_file():
            # v1 has a number without the word max, larger than any machine's memory.
            limit = file.read_text().strip()
            return int(limit) if limit.isdecimal() else None
    return None


def _quota() -> int | None:
    """Return the cores whose time this container is given, rounded up; None = no limit is set."""
    for names in (("cpu.max",), ("cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us")):  # v2, v1
        files = [_CGROUP / name for name in names]
        if all(file.is_file() for file in files):
            quota, period = " ".join(file.read_text() for file in files).split()
            is_limit = quota not in ("max", "-1")
            return math.ceil(int(quota) / int(period)) if is_limit else None
    return None
