"""What the run may still spend: the clock behind RUN/spending.jsonl.

It begins when the process does, so that preparation and scoring are paid for as well.
"""

import time
from collections.abc import Sequence

from yxanul.config.schema import BudgetConfig, ModelConfig
from yxanul.curriculum.checks.budget import limit_s
from yxanul.curriculum.stages import StagePlan
from yxanul.errors import GateStopError
from yxanul.runfolder.layout import RunFolder
from yxanul.runfolder.spending import (
    Payment,
    next_process,
    read_payments,
    record_payment,
    spending_of,
)
from yxanul.watch.pace import Forecast, Pace


class BudgetClock:
    """Counts this process's seconds on top of those of all processes before it."""

    def __init__(
        self, folder: RunFolder, budget: BudgetConfig, *, model: ModelConfig, began: float
    ) -> None:
        """`began` is time.monotonic() when the process began to work on the run."""
        self._path = folder.spending
        self._budget = budget
        self._limit_s = limit_s(budget)
        self._begin = began
        payments = read_payments(self._path)
        self._process = next_process(payments)
        self._before_s = spending_of(payments).seconds
        self._pace = Pace(model)
        for payment in payments:
            self._pace.add(payment)

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

    def record(
        self, tokens_spent: int, *, scoring_s: float, seq_len: int, memory_bytes: int
    ) -> None:
        """Write down what has been spent so far, `scoring_s` of it on scores.

        `seq_len` is that of the newest tokens, `memory_bytes` the most that was held until now.
        """
        seconds = time.monotonic() - self._begin
        payment = Payment(self._process, seconds, tokens_spent, scoring_s, seq_len, memory_bytes)
        record_payment(self._path, payment)
        self._pace.add(payment)

    def forecast(
        self, course: Sequence[StagePlan], *, stage: int, stage_step: int
    ) -> Forecast | None:
        """Return what the whole run will cost, as `Pace` does."""
        return self._pace.forecast(course, stage=stage, stage_step=stage_step)

    def stop(self, place: str) -> GateStopError:
        """Return the error of a run whose budget is spent; `place` says where it stands."""
        budget = self._budget
        told = [f"{budget.hours:g} hours"] if budget.hours is not None else []
        told += [f"${budget.usd:g}"] if budget.usd is not None else []
        return GateStopError(
            f"the budget of {' and '.join(told)} is spent, and the run is saved at {place}; start "
            "the same command with a larger budget.hours or budget.usd to go on"
        )
