"""Hours and dollars of what is left of the plan, at the measured rate, against the budget.

The one idea: the low end is the best that this machine could do (the better of the measured rates
all along, an optimizer's step shared equally where it is shared out, no exchange of gradients ever
waited for, no attention where documents are kept apart, whose lengths nobody knows yet, nothing on
top), the high end the worst (the lower rate, the whole optimizer's step, every exchange waited for,
of gradients and of what an optimizer's shares have moved, the most that is usual on top). What does
not fit even at the low end cannot fit, and is refused; what the high end alone exceeds is told, and
so is what a run has spent that trains no more.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from yxanul.config.schema import BudgetConfig, RunConfig
from yxanul.errors import GateStopError, UsageError
from yxanul.plan.cost import OVERHEAD, OVERHEAD_HIGH, OVERHEAD_LOW, Cost, Range
from yxanul.plan.flops import flops_per_token
from yxanul.plan.memory import FP32_BYTES
from yxanul.plan.parameters import parameter_count
from yxanul.plan.plain import range_json
from yxanul.plan.tables import span
from yxanul.preflight.finding import Finding
from yxanul.preflight.machine import exchange_seconds
from yxanul.preflight.measuring import Measured, Rate
from yxanul.preflight.standing import Progress
from yxanul.train.starting.settings import refuse_both
from yxanul.units import HOUR_S, format_count, format_hours, format_usd

_LARGEST_USD = 1e9


def settled_budget(
    budget: BudgetConfig,
    *,
    usd_per_hour: float | None,
    usd: float | None,
    overrides: Sequence[str] = (),
) -> BudgetConfig:
    """Return the configured budget with what the flags say.

    A wrong one is a `UsageError`, and so is one beside an override of what it sets.
    """
    asked = ("--usd_per_hour", usd_per_hour, "usd_per_hour"), ("--budget_usd", usd, "usd")
    for flag, value, key in asked:
        if value is not None:
            refuse_both(flag, f"budget[.]{key}", overrides=overrides)
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


def forecast(config: RunConfig, measured: Measured, *, progress: Progress) -> Range:
    """Return the hours that are left, spent ones not among them."""
    best = max(measured.rates, key=lambda rate: rate.flops_per_s)
    worst = min(measured.rates, key=lambda rate: rate.flops_per_s)
    low = likely = high = waiting = 0.0
    exchange_s, publishing_s = exchange_seconds(measured, config), _publishing_s(measured, config)
    sharers = _sharers(config, measured.processes)
    # One step, timed at every length: apart from noise it is the same.
    steps_s = [rate.optimizer_s for rate in measured.rates]
    for plan, seq_len, steps in progress.left():
        tokens = steps * plan.config.training.batch_tokens
        flops = tokens * flops_per_token(config.model, seq_len) / measured.processes
        attended = 1 if config.optimization.compute.document_masking else seq_len
        least = tokens * flops_per_token(config.model, attended) / measured.processes
        near = _nearest(measured.rates, seq_len)
        low += least / best.flops_per_s + steps * min(steps_s) / sharers
        likely += flops / near.flops_per_s + steps * near.optimizer_s / sharers
        high += flops / worst.flops_per_s + steps * max(steps_s)
        waiting += steps * (exchange_s + publishing_s)
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
    left = sum(steps * plan.config.training.batch_tokens for plan, _, steps in progress.left())
    value = {
        "tokens_left": left,
        **range_json("hours", cost.hours),
        **range_json("usd", cost.usd),
        "spent_hours": spent,
        "budget_hours": budget.hours,
        "budget_usd": budget.usd,
    }
    told = _told(cost, left=left, spent=spent, price=budget.usd_per_hour)
    over_low, over_high = _limits_broken(cost, budget)
    if over_low and not left:
        why = (
            f"{told}: more than {over_low}, and nothing is left to train; if its last gate has "
            "still to be asked, that judges the budget (G8)"
        )
        return Finding("cost", "warn", value, why)
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


def _sharers(config: RunConfig, processes: int) -> int:
    """Return among how many processes the optimizer's step is shared out, at best equally.

    Where one of them holds more, as of the embedding, the others wait for it.
    """
    compute = config.optimization.compute
    return processes if compute.zero1 or compute.engine == "deepspeed" else 1


def _publishing_s(measured: Measured, config: RunConfig) -> float:
    """Return the seconds in which all parameters cross the bus, moved each by its owner.

    0 where each process moves all of them.
    """
    if measured.bus_bytes_per_s is None or _sharers(config, measured.processes) == 1:
        return 0.0
    return FP32_BYTES * parameter_count(config.model).total / measured.bus_bytes_per_s


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
        f"({span(hours, format_hours, between=' to ')}, the high end with {OVERHEAD})"
    )
    if usd is not None and price is not None:
        told += (
            f", {format_usd(usd.value)} ({span(usd, format_usd, between=' to ')}) at "
            f"${price:g} an hour"
        )
    else:
        told += "; in dollars with --usd_per_hour"
    return f"{told}; {format_hours(spent)} h of it are spent" if spent else told
