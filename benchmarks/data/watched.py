"""A program run to its end, with its time and the memory of all its processes."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

_LOOK_S = 0.25


@dataclass(frozen=True)
class Watched:
    """What a program took; memory is the largest sum over its processes, shared pages once."""

    seconds: float
    peak_bytes: int


def run_watched(command: Sequence[str], *, log: Path) -> Watched:
    """Run a command, with its words in `log`; raises CalledProcessError if it fails."""
    begin, peak = time.perf_counter(), 0
    with log.open("wb") as words:
        process = subprocess.Popen(command, stdout=words, stderr=subprocess.STDOUT)
        while process.poll() is None:
            peak = max(peak, sum(map(_memory, _family(process.pid))))
            time.sleep(_LOOK_S)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return Watched(time.perf_counter() - begin, peak)


def _family(pid: int) -> list[int]:
    """Return a process and all that it has started."""
    found, waiting = [], [pid]
    while waiting:
        one = waiting.pop()
        found.append(one)
        for children in Path(f"/proc/{one}/task").glob("*/children"):
            try:
                waiting += map(int, children.read_text().split())
            except OSError:
                continue  # it has just ended
    return found


def _memory(pid: int) -> int:
    """Return a process' share of memory in bytes, 0 if it has just ended."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))
