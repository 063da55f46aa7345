"""What the run may still spend: the clock behind RUN/spending.jsonl.

It begins when the process does, so that preparation and scoring are paid for as well.
"""

import time

from yxanul.config.schema import BudgetConfig
from yxanul.errors import GateStopError
from yxanul.runfolder.layout import RunFolder
from yxanul.runfolder.spending import next_process, read_spending, record_spending
from yxanul.units import HOUR_S


class BudgetClock:
    """Counts this process's seconds on top of those of all processes before it."""

    def __init__(self, folder: RunFolder, budget: BudgetConfig, *, began: float) -> None:
        """`began` is time.monotonic() when the process began to work on the run."""
        self._path = folder.spending
        self._budget = budget
        self._limit_s = limit_s(budget)
        self._begin = began
        self._process = next_process(self._path)
        self._before_s = read_spending(self._path).seconds

    @property
    def spent_s(self) -> float:
        """Seconds of the whole run until now."""
        return self._before_s + time.monotonic() - self._begin

    @property
    def is_limited(self) -> bool:
        """Whether there is a budget."""
        return self._limit_s is not None

    @property
    def is_spent(self) -> bool:
        """Whether nothing of the budget is left."""
        return self._limit_s is not None and self.spent_s >= self._limit_s

    def record(self, tokens_spent: int) -> None:
        """Write down what has been spent so far."""
        seconds = time.monotonic() - self._begin
        record_spending(self._path, process=self._process, seconds=seconds, tokens=tokens_spent)

    def stop(self, place: str) -> GateStopError:
        """Return the error of a run whose budget is spent; `place` says where it stands."""
        budget = self._budget
        told = [f"{budget.hours:g} hours"] if budget.hours is not None else []
        told += [f"${budget.usd:g}"] if budget.usd is not None else []
        return GateStopError(
            f"the budget of {' and '.join(told)} is spent, and the run is saved at {place}; start "
            "the same command with a larger budget.hours or budget.usd to go on"
        )


def limit_s(budget: BudgetConfig) -> float | None:
    """Return the seconds that the tighter limit allows; None without one."""
    limits = [] if budget.hours is None else [budget.hours * HOUR_S]
    if budget.usd is not None and budget.usd_per_hour is not None:
        limits.append(budget.usd / budget.usd_per_hour * HOUR_S)
    return min(limits, default=None)
