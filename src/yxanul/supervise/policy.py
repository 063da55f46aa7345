"""When another start may help: a stop that was saved, a failure from outside, a process killed.

A gate's verdict, a wrong setting, damaged data, a full disk and numbers that explode end the same
way however often they are tried (docs/decisions.md, 22).
"""

from dataclasses import dataclass

from yxanul.errors import InfrastructureError, StoppedOnRequest
from yxanul.supervise.ending import Ending

SAME_STEP_FAILURES = 3
"""Recorded failures at one step after which it is no accident."""
STARTS_WITHOUT_PROGRESS = 10
"""Starts that ended without a record, a new step or a new score: something kills them."""
_LONGEST_WAIT_S = 300.0
_KILLED = 137  # 128 + SIGKILL: out of memory, or a machine that was taken away
_NOWHERE: tuple[int | None, int] = (None, 0)  # no step, no score
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
        self._place = _NOWHERE
        self._failures = 0
        self._fruitless = 0

    def after(self, ending: Ending) -> Decision:
        """Return what to do after this end."""
        place = (ending.step, ending.scores)
        # A start that is killed before it names its run folder stands nowhere, and is no progress.
        if place not in (self._place, _NOWHERE):
            self._place = place
            self._failures = self._fruitless = 0
        if ending.is_recorded and ending.code == StoppedOnRequest.exit_code:
            return Decision(0.0, "it was asked to stop, and saved")
        if ending.is_recorded and ending.code == InfrastructureError.exit_code:
            self._failures += 1
            if self._failures >= SAME_STEP_FAILURES:
                told = f"it failed {self._failures} times {_at(ending)}"
                return Decision(None, f"{told}, so another start would fail as well")
            return Decision(self._wait(self._failures), "a failure that may pass")
        if not ending.is_recorded and ending.code in (_KILLED, _INTERNAL):
            self._fruitless += 1
            if self._fruitless >= STARTS_WITHOUT_PROGRESS:
                told = f"it was ended {self._fruitless} times {_at(ending)}"
                return Decision(None, f"{told}, without a word: is the memory enough?")
            return Decision(self._wait(self._fruitless), "a process was ended from outside")
        if ending.code == 0:
            return Decision(None, "done")
        return Decision(None, "another start would end the same way")

    def _wait(self, times: int) -> float:
        return float(min(self._backoff_s * 2 ** (times - 1), _LONGEST_WAIT_S))


def _at(ending: Ending) -> str:
    return "before its first step" if ending.step is None else f"at step {ending.step}"
