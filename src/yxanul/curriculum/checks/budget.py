"""G8: does the run still fit what it may cost?"""

from dataclasses import dataclass

from yxanul.config.schema import BudgetConfig
from yxanul.curriculum.checks.check import Check
from yxanul.runfolder.spending import Spent
from yxanul.units import HOUR_S, format_hours, format_usd

_WARN, _STOP = 1.0, 1.15


@dataclass(frozen=True)
class Spending:
    """What a run has cost and will cost, against what it may; from stored rows only."""

    spent_s: float
    projected_s: float | None
    """Seconds of the whole run, as its pace lets expect; None: too few rows to tell."""
    limit_s: float | None
    """Seconds that it may take. Older versions turned dollars into seconds as well."""
    usd_per_hour: float | None
    """The price of now: of what is left, and of what was spent without a price."""
    extension_s: float = 0.0
    """Seconds that one extension of the stage would add."""
    spent_usd: float | None = None
    """At the prices of then; None: an older version did not say, or there is no price."""
    limit_usd: float | None = None

    def usd(self, seconds: float) -> float | None:
        """Return what the whole run has cost when it has taken so many seconds."""
        if self.usd_per_hour is None:
            return None
        rate = self.usd_per_hour / HOUR_S
        if self.spent_usd is None:
            return seconds * rate
        return self.spent_usd + (seconds - self.spent_s) * rate

    def share(self, seconds: float) -> float:
        """Return the part of the tighter limit that so many seconds of the whole run take."""
        shares = [] if self.limit_s is None else [seconds / self.limit_s]
        usd = self.usd(seconds)
        if self.limit_usd is not None and usd is not None:
            shares.append(usd / self.limit_usd)
        return max(shares)

    @property
    def is_left_to_extend(self) -> bool:
        """Whether the run would end within the limit with one extension of the stage."""
        least_s = self.spent_s if self.projected_s is None else self.projected_s
        return self.share(least_s + self.extension_s) <= _WARN


def has_limit(budget: BudgetConfig) -> bool:
    """Tell whether a run may cost only so much; dollars need the price of an hour."""
    return budget.hours is not None or (budget.usd is not None and budget.usd_per_hour is not None)


def budget_share(budget: BudgetConfig, spent: Spent, *, left_s: float = 0.0) -> float | None:
    """Return the part of the budget that is spent after `left_s` more seconds; None without one."""
    if not has_limit(budget):
        return None
    return spending_under(budget, spent).share(spent.seconds + left_s)


def spending_under(
    budget: BudgetConfig, spent: Spent, *, left_s: float | None = None, extension_s: float = 0.0
) -> Spending:
    """Return what a run has cost, and will with `left_s` more seconds, against its budget."""
    price = budget.usd_per_hour
    return Spending(
        spent_s=spent.seconds,
        projected_s=None if left_s is None else spent.seconds + left_s,
        limit_s=None if budget.hours is None else budget.hours * HOUR_S,
        usd_per_hour=price,
        extension_s=extension_s,
        spent_usd=None if price is None else spent.usd_at(price),
        limit_usd=None if price is None else budget.usd,
    )


def budget_check(spending: Spending | None) -> Check:
    """G8: the projected cost over the budget; 15 % more than the budget stops."""
    if spending is None:
        return Check("G8", None, "not applicable", "the run has no budget")
    spent, whole = _told(spending, spending.spent_s), "too few rows to forecast the rest"
    if spending.projected_s is not None:
        whole = f"{_told(spending, spending.projected_s)} forecast to the end"
    told = f"{spent} are spent, {whole}, of {_limit(spending)}"
    # What is spent is the least that it will be.
    known_s = spending.spent_s if spending.projected_s is None else spending.projected_s
    share = spending.share(known_s)
    if share <= _WARN and spending.projected_s is None:
        return Check("G8", None, "not applicable", told)
    if share <= _WARN:
        return Check("G8", None, "pass", told, value=share, margin=_WARN)
    if share <= _STOP:
        return Check("G8", None, "warn", told, value=share, margin=_WARN)
    return Check("G8", None, "fail", told, "stop", value=share, margin=_WARN)


def _told(spending: Spending, seconds: float) -> str:
    usd = spending.usd(seconds)
    return f"{format_hours(seconds / HOUR_S)} h" + ("" if usd is None else f" ({format_usd(usd)})")


def _limit(spending: Spending) -> str:
    told = [] if spending.limit_s is None else [f"{format_hours(spending.limit_s / HOUR_S)} h"]
    told += [] if spending.limit_usd is None else [format_usd(spending.limit_usd)]
    return " and ".join(told)
