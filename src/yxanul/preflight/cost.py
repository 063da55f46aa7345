"""Hours and dollars of what is left of the plan, at the measured rate, against the budget.

The one idea: the low end is the best that this machine could do (the better of the measured rates
all along, no exchange of gradients ever waited for, nothing on top), the high end the worst (the
lower rate, every exchange waited for, the most that is usual on top). What does not fit even at the
low end cannot fit, and is refused; what the high end alone exceeds is told.
"""

from __future__ import annotations

import math
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from yxanul.config.schema import BudgetConfig, RunConfig
from yxanul.errors import GateStopError, UsageError
from yxanul.plan.budget import phase_tokens
from yxanul.plan.cost import OVERHEAD, OVERHEAD_HIGH, OVERHEAD_LOW, Cost, Range
from yxanul.plan.flops import flops_per_token
from yxanul.preflight.finding import Finding
from yxanul.preflight.machine import exchange_seconds
from yxanul.preflight.measuring import Measured, Rate
from yxanul.runfolder.layout import RunFolder
from yxanul.runfolder.mirror import bring_rows
from yxanul.runfolder.rows import read_rows
from yxanul.runfolder.spending import Spent, read_spending
from yxanul.units import HOUR_S, format_count, format_hours, format_usd

_LARGEST_USD = 1e9


@dataclass(frozen=True)
class Progress:
    """Where a run stands that goes on here: tokens of the plan that are behind it, and its cost."""

    tokens_seen: int = 0
    spent: Spent = field(default_factory=Spent)


def settled_budget(
    budget: BudgetConfig, *, usd_per_hour: float | None, usd: float | None
) -> BudgetConfig:
    """Return the configured budget with what the flags say; a `UsageError` names a wrong one."""
    for flag, value in (("--usd_per_hour", usd_per_hour), ("--budget_usd", usd)):
        if value is not None and not 0 < value <= _LARGEST_USD:  # nan is outside, too
            raise UsageError(
                f"{flag} {value:g} is not an amount of dollars; write a number above 0, e.g. "
                f"{flag} {'12.80, the price of the whole machine' if 'hour' in flag else '200'}"
            )
    changed = {"usd_per_hour": usd_per_hour, "usd": usd}
    changed = {key: value for key, value in changed.items() if value is not None}
    settled = budget.model_copy(update=changed)
    if settled.usd is not None and settled.usd_per_hour is None:
        raise UsageError("--budget_usd needs --usd_per_hour, the price of the whole machine")
    return settled


def read_progress(folder: RunFolder, mirror: str | None) -> Progress:
    """Return where the run in the folder stands, or the one at its mirror if there is none."""
    if read_rows(folder.lineage) or mirror is None:
        return _progress(folder)
    with tempfile.TemporaryDirectory(prefix="yxanul-") as scratch:
        copy = RunFolder(Path(scratch))
        bring_rows(mirror, [copy.metrics, copy.spending])
        return _progress(copy)


def forecast(config: RunConfig, measured: Measured, *, progress: Progress) -> Range:
    """Return the hours that are left, spent ones not among them."""
    best = max(measured.rates, key=lambda rate: rate.flops_per_s)
    worst = min(measured.rates, key=lambda rate: rate.flops_per_s)
    low = likely = high = waiting = 0.0
    exchange_s = exchange_seconds(measured, config)
    for seq_len, tokens, batch in _left(config, progress.tokens_seen):
        flops = tokens * flops_per_token(config.model, seq_len) / measured.processes
        low += flops / best.flops_per_s
        likely += flops / _nearest(measured.rates, seq_len).flops_per_s
        high += flops / worst.flops_per_s
        waiting += tokens / batch * exchange_s
    return Range(
        likely * (1 + OVERHEAD_LOW) / HOUR_S,
        low / HOUR_S,
        (high + waiting) * (1 + OVERHEAD_HIGH) / HOUR_S,
    )


def look_at_cost(
    config: RunConfig, measured: Measured, *, budget: BudgetConfig, progress: Progress
) -> Finding:
    """Judge the forecast, and what was spent already, by the budget."""
    hours = forecast(config, measured, progress=progress)
    spent = progress.spent.seconds / HOUR_S
    total = Range(*(spent + part for part in (hours.value, hours.low, hours.high)))
    cost = Cost(hours=total, usd=None)
    if budget.usd_per_hour is not None:
        price = budget.usd_per_hour
        usd = progress.spent.usd_at(price)  # on another machine an hour may have cost another price
        cost = Cost(
            total, Range(*(usd + price * part for part in (hours.value, hours.low, hours.high)))
        )
    left = sum(tokens for _, tokens, _ in _left(config, progress.tokens_seen))
    value = {
        "tokens_left": left,
        **_value("hours", cost.hours),
        **_value("usd", cost.usd),
        "spent_hours": spent,
        "budget_hours": budget.hours,
        "budget_usd": budget.usd,
    }
    told = _told(cost, left=left, spent=spent, price=budget.usd_per_hour)
    over_low, over_high = _limits_broken(cost, budget)
    if over_low:
        why = (
            f"{told}: more than {over_low} even at best; take a faster or cheaper machine, plan "
            "fewer tokens, or raise the budget"
        )
        return Finding("cost", "fail", value, why, GateStopError.exit_code)
    if over_high:
        why = f"{told}: the high end is more than {over_high}, at which the run would stop, saved"
        return Finding("cost", "warn", value, why)
    if budget.usd is None and budget.hours is None:
        why = f"{told}; no budget judges it: --budget_usd, or budget.hours"
        return Finding("cost", "warn", value, why)
    return Finding("cost", "pass", value, f"{told}, within the budget")


def _left(config: RunConfig, tokens_seen: int) -> list[tuple[int, int, int]]:
    """Return (seq_len, tokens, batch_tokens) of every phase, without the tokens behind the run."""
    left = []
    for stage in config.stages:
        for seq_len, tokens in phase_tokens(stage.training):
            done = min(tokens, tokens_seen)
            tokens_seen -= done
            left.append((seq_len, tokens - done, stage.training.batch_tokens))
    return left


def _nearest(rates: tuple[Rate, ...], seq_len: int) -> Rate:
    """Return the rate of the measured length that is nearest by ratio."""
    return min(rates, key=lambda rate: abs(math.log(rate.seq_len / seq_len)))


def _limits_broken(cost: Cost, budget: BudgetConfig) -> tuple[str, str]:
    """Name the limit that the low end exceeds, and the one that the high end does; "" = none."""
    limits = []
    if budget.usd is not None and cost.usd is not None:
        limits.append((cost.usd, budget.usd, f"the budget of {format_usd(budget.usd)}"))
    if budget.hours is not None and cost.hours is not None:
        limits.append((cost.hours, budget.hours, f"the budget of {budget.hours:g} hours"))
    low = next((name for amount, limit, name in limits if amount.low > limit), "")
    high = next((name for amount, limit, name in limits if amount.high > limit), "")
    return low, high


def _told(cost: Cost, *, left: int, spent: float, price: float | None) -> str:
    hours, usd = cost.hours, cost.usd
    assert hours is not None  # a rate was measured
    told = (
        f"{format_count(left)} tokens to train: {format_hours(hours.value)} h "
        f"({format_hours(hours.low)} to {format_hours(hours.high)}, the high end with {OVERHEAD})"
    )
    if usd is not None and price is not None:
        told += (
            f", {format_usd(usd.value)} ({format_usd(usd.low)} to {format_usd(usd.high)}) at "
            f"${price:g} an hour"
        )
    else:
        told += "; in dollars with --usd_per_hour"
    return f"{told}; {format_hours(spent)} h of it are spent" if spent else told


def _value(name: str, amount: Range | None) -> dict[str, float | None]:
    if amount is None:
        return {name: None, f"{name}_low": None, f"{name}_high": None}
    return {name: amount.value, f"{name}_low": amount.low, f"{name}_high": amount.high}


def _progress(folder: RunFolder) -> Progress:
    rows = read_rows(folder.metrics)
    seen = rows[-1].get("tokens_seen") if rows else 0
    tokens_seen = seen if isinstance(seen, int) else 0
    return Progress(tokens_seen, read_spending(folder.spending))
