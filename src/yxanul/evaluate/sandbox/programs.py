"""Runs model-written programs: the door of the sandbox.

    outcomes = run_programs([prompt + completion + tests], limits=Limits())

Every program gets a fresh interpreter without site-packages, a fresh folder and one process: no
threads, no children, no network, no other file than its own and Python's. It passes if it ends with
status 0 and proves that its last statement was reached (`jail/runner.py`). That cannot be had
by leaving early, by guessing, or by looking through frames and gc.

Not defended: tests and program share one interpreter, as in every HumanEval harness, so a program
can make the tests true (an object that equals everything, a patched builtin) or, with bytecode made
by hand, read the proof from its own memory. Bugs of the kernel are no promise either.
"""

from collections.abc import Sequence

from yxanul.errors import SandboxUnavailableError
from yxanul.evaluate.sandbox.level import sandbox_level
from yxanul.evaluate.sandbox.outcome import Limits, ProgramOutcome
from yxanul.evaluate.sandbox.pool import run_jobs
from yxanul.evaluate.sandbox.process import Sandbox

_DEFAULT = Limits()


def run_programs(
    programs: Sequence[str],
    *,
    limits: Limits = _DEFAULT,
    workers: int | None = None,
    allow_unsafe: bool = False,
) -> list[ProgramOutcome]:
    """Run programs and say of each whether it passed, in their order.

    workers: programs at a time, the usable cores if None. allow_unsafe runs them on a machine whose
    sandbox holds only resource limits, with this user's files and network in their reach.

    Raises:
        SandboxUnavailableError: the machine offers no sandbox that held, and allow_unsafe is False.
        InfrastructureError: the sandbox could not be set up for a program (no memory, for
            instance); no outcome is told then.
    """
    level = sandbox_level()
    if not level.runs_programs and not allow_unsafe:
        raise SandboxUnavailableError(
            f"model-written programs are not run here: sandbox level {level.name}, {level.why}"
        )
    return run_jobs([(program, Sandbox(level.name, limits)) for program in programs], workers)
