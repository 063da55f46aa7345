"""When another start may help: a stop that was saved, a failure from outside, a process killed.

A gate's verdict, a wrong setting, damaged data, a full disk and numbers that explode end the same
way however often they are tried.
"""

import signal
from dataclasses import dataclass

from yxanul.errors import InfrastructureError, StoppedOnRequest
from yxanul.supervise.ending import Ending

SAME_STEP_FAILURES = 3
"""Failures at one step after which it is no accident."""
STARTS_WITHOUT_PROGRESS = 10
"""Starts in a row that were ended from outside and kept nothing: no checkpoint and no score."""
LONG_START_S = 1800.0
"""Seconds after which a start that fails while data is prepared is no repetition: the next one
goes on from what it has prepared."""
_LONGEST_WAIT_S = 300.0
# 128 + SIGKILL: out of memory, or a machine that was taken away. DeepSpeed's launcher leaves with
# what is left of a rank's -9 in the byte of an exit code.
_KILLED = (137, 247)
# A page of a disk that fails, a library that gives up, a fault of memory: as they leave, and as
# DeepSpeed's launcher does then.
_CRASHES = (signal.SIGBUS, signal.SIGABRT, signal.SIGSEGV)
_CRASHED = {128 + number for number in _CRASHES} | {256 - number for number in _CRASHES}
_NOTHING: tuple[tuple[str, ...], int] = ((), 0)  # no checkpoint, no score
_INTERNAL = 1  # what torchrun leaves with when a rank was killed


@dataclass(frozen=True)
class Decision:
    """What to do after an end: start again after `wait_s` seconds, or not (None), and why."""

    wait_s: float | None
    why: str


class Policy:
    """Decides after every end, and remembers what it has seen of this run."""

    def __init__(self, *, backoff_s: float) -> None:
        self._backoff_s = backoff_s
        self._kept = _NOTHING
        self._step: int | None = None
        self._failures = 0
        self._fruitless = 0

    def after(self, ending: Ending) -> Decision:
        """Return what to do after this end."""
        kept = (ending.checkpoints, ending.scores)
        # A start that is killed before it names its run folder has kept nothing, and is no
        # progress; nor are steps after the last checkpoint, which the next start does again.
        if kept not in (self._kept, _NOTHING):
            self._kept = kept
            self._failures = self._fruitless = 0
        if ending.step not in (self._step, None):
            self._step, self._failures = ending.step, 0
        # Not up to the first step: what hangs before that is ended after an hour of patience.
        if ending.is_preparing and ending.lived_s >= LONG_START_S:
            self._failures = 0
        if ending.is_recorded and ending.code == StoppedOnRequest.exit_code:
            return Decision(0.0, "it was asked to stop, and saved")
        # DeepSpeed's launcher leaves with the code of a rank that had nobody to tell it to.
        is_told = ending.is_recorded or ending.may_hide_a_kill
        if is_told and ending.code == InfrastructureError.exit_code:
            return self._after_failure(ending, "a failure that may pass")
        if not ending.is_recorded and ending.code == _INTERNAL and ending.may_hide_a_kill:
            return self._after_failure(ending, "a process may have been killed")
        if not ending.is_recorded and ending.code in _KILLED:
            return self._again(self._fruitless + 1, "a process was ended from outside")
        if not ending.is_recorded and ending.code in _CRASHED:
            return self._after_failure(ending, "a process crashed, as where a disk fails")
        if ending.code == 0:
            return Decision(None, "done")
        return Decision(None, "another start would end the same way")

    def _after_failure(self, ending: Ending, why: str) -> Decision:
        self._failures += 1
        if self._failures >= SAME_STEP_FAILURES:
            told = f"it failed {self._failures} times {_at(ending)}"
            return Decision(None, f"{told}, so another start would fail as well")
        return self._again(self._failures, why)

    def _again(self, times: int, why: str) -> Decision:
        """Start again, later after more `times`, unless nothing comes of any start."""
        self._fruitless += 1
        if self._fruitless >= STARTS_WITHOUT_PROGRESS:
            told = f"{self._fruitless} starts have kept no checkpoint and no score"
            return Decision(
                None,
                f"{told}: is the memory enough, is checkpoint.every_s longer than a start lives?",
            )
        return Decision(float(min(self._backoff_s * 2 ** (times - 1), _LONGEST_WAIT_S)), why)


def _at(ending: Ending) -> str:
    return "before its first step" if ending.step is None else f"at step {ending.step}"
