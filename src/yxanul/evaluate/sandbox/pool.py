"""Several programs at a time, each in its own process; results come in the programs' order."""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from yxanul.evaluate.sandbox.outcome import ProgramOutcome
from yxanul.evaluate.sandbox.process import Sandbox, run_program


def run_jobs(
    jobs: Sequence[tuple[str, Sandbox]], workers: int | None = None
) -> list[ProgramOutcome]:
    """Run each program in its sandbox; workers: programs at a time, the usable cores if None."""
    with ThreadPoolExecutor(workers or _usable_cores()) as pool:
        return list(pool.map(lambda job: run_program(*job), jobs))


def _usable_cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
