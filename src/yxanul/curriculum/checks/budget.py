"""G8: does the run still fit what it may cost?"""

from dataclasses import dataclass

from yxanul.config.schema import BudgetConfig
from yxanul.curriculum.checks.check import Check
from yxanul.units import HOUR_S

_WARN, _STOP = 1.0, 1.15


@dataclass(frozen=True)
class Spending:
    """What a run has cost and will cost, against what it may; from stored rows only."""

    spent_s: float
    projected_s: float
    """Seconds of the whole run, if every token left costs what one did so far."""
    limit_s: float
    usd_per_hour: float | None
    extension_s: float = 0.0
    """Seconds that one extension of the stage would add, at the same cost of a token."""

    @property
    def is_left_to_extend(self) -> bool:
        """Whether the run would end within the limit with one extension of the stage."""
        return self.projected_s + self.extension_s <= self.limit_s


def limit_s(budget: BudgetConfig) -> float | None:
    """Return the seconds that the tighter limit allows; None without one."""
    limits = [] if budget.hours is None else [budget.hours * HOUR_S]
    if budget.usd is not None and budget.usd_per_hour is not None:
        limits.append(budget.usd / budget.usd_per_hour * HOUR_S)
    return min(limits, default=None)


def budget_check(spending: Spending | None) -> Check:
    """G8: the projected cost over the budget; 15 % more than the budget stops."""
    if spending is None:
        return Check("G8", None, "not applicable", "the run has no budget")
    share = spending.projected_s / spending.limit_s
    told = (
        f"{_told(spending, spending.spent_s)} are spent, {_told(spending, spending.projected_s)} "
        f"forecast to the end, of {_told(spending, spending.limit_s)}"
    )
    if share <= _WARN:
        return Check("G8", None, "pass", told, value=share, margin=_WARN)
    if share <= _STOP:
        return Check("G8", None, "warn", told, value=share, margin=_WARN)
    return Check("G8", None, "fail", told, "stop", value=share, margin=_WARN)


def _told(spending: Spending, seconds: float) -> str:
    hours = seconds / HOUR_S
    if spending.usd_per_hour is None:
        return f"{hours:.3g} h"
    return f"{hours:.3g} h (${hours * spending.usd_per_hour:.2f})"
