"""Several programs at a time, each in its own process; results come in the programs' order."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from yxanul.cores import usable_cores
from yxanul.evaluate.sandbox.outcome import ProgramOutcome
from yxanul.evaluate.sandbox.process import Sandbox, run_program


def run_jobs(
    jobs: Sequence[tuple[str, Sandbox]], workers: int | None = None
) -> list[ProgramOutcome]:
    """Run each program in its sandbox; workers: programs at a time, the usable cores if None."""
    with ThreadPoolExecutor(workers or usable_cores()) as pool:
        return list(pool.map(lambda job: run_program(*job), jobs))
