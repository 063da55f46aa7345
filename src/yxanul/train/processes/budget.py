"""What the run may still spend: the clock behind RUN/spending.jsonl.

It begins when the process does, so that preparation and scoring are paid for as well.
"""

import time
from collections.abc import Sequence

from yxanul.config.schema import RunConfig
from yxanul.curriculum.checks.budget import budget_share, has_limit
from yxanul.curriculum.stages import StagePlan
from yxanul.errors import GateStopError
from yxanul.hardware.device import device_name
from yxanul.runfolder.layout import RunFolder
from yxanul.runfolder.spending import (
    Payment,
    Spent,
    next_process,
    read_payments,
    record_payment,
    spending_of,
)
from yxanul.train.processes.machine import Machine
from yxanul.watch.pace import Outlook, Pace


class BudgetClock:
    """Counts this process's seconds on top of those of all processes before it."""

    def __init__(self, folder: RunFolder, config: RunConfig, *, machine: Machine) -> None:
        """Go on from what the run's earlier processes have written down."""
        self._path = folder.spending
        self._budget = config.optimization.budget
        self._begin = machine.began
        self._machine = f"{machine.processes.world_size} x {device_name(machine.device)}"
        payments = read_payments(self._path)
        self._process = next_process(payments)
        self._before = spending_of(payments)
        self._pace = Pace(config.model)
        for payment in payments:
            self._pace.add(payment)

    @property
    def spent(self) -> Spent:
        """What the whole run has cost until now."""
        seconds = time.monotonic() - self._begin
        return self._before.plus(seconds, usd_per_hour=self._budget.usd_per_hour)

    @property
    def is_limited(self) -> bool:
        """Whether there is a budget."""
        return has_limit(self._budget)

    @property
    def is_spent(self) -> bool:
        """Whether nothing of the budget is left."""
        share = budget_share(self._budget, self.spent)
        return share is not None and share >= 1.0

    def record(
        self,
        tokens_spent: int,
        *,
        scoring_s: float,
        seq_len: int,
        memory_bytes: int,
        checkpoint: str | None,
    ) -> None:
        """Write down what has been spent so far, `scoring_s` of it on scores.

        `seq_len` is that of the newest tokens, `memory_bytes` the most that was held until now, and
        `checkpoint` the name of the newest one.
        """
        payment = Payment(
            process=self._process,
            seconds=time.monotonic() - self._begin,
            tokens_spent=tokens_spent,
            scoring_s=scoring_s,
            seq_len=seq_len,
            memory_bytes=memory_bytes,
            usd_per_hour=self._budget.usd_per_hour,
            machine=self._machine,
            at=time.time(),
            checkpoint=checkpoint,
        )
        record_payment(self._path, payment)
        self._pace.add(payment)

    def forecast(
        self, course: Sequence[StagePlan], *, stage: int, stage_step: int
    ) -> Outlook | None:
        """Return what the whole run will cost, as `Pace` does."""
        found = self._pace.forecast(course, stage=stage, stage_step=stage_step)
        if found is None:
            return None
        return self._pace.outlook(found, usd_per_hour=self._budget.usd_per_hour)

    def stop(self, place: str) -> GateStopError:
        """Return the error of a run whose budget is spent; `place` says where it stands."""
        budget = self._budget
        told = [f"{budget.hours:g} hours"] if budget.hours is not None else []
        told += [f"${budget.usd:g}"] if budget.usd is not None else []
        return GateStopError(
            f"the budget of {' and '.join(told)} is spent, and the run is saved at {place}; start "
            "the same command with a larger budget.hours or budget.usd to go on"
        )
