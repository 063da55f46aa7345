"""Promises about tokens per second, hours and dollars, judged at the assumed MFU and rents."""

from __future__ import annotations

from yxanul.plan.claims.claim import TOLERANCE, Claim, Facts, stage_of
from yxanul.plan.cost import Bill, Range, mfu_of_rate
from yxanul.plan.flops import flops_per_token
from yxanul.plan.tables import figures, percent, span
from yxanul.units import format_count, format_hours, format_usd

HOURS = 18.0
STAGE_HOURS = {"wikipedia": 6.0, "reasoning": 5.0, "math": 4.0, "code": 3.0}
USD = 105.0
LARGEST_USD = 200.0
ON_A100 = (40_000, 45_000)
ON_H100 = (60_000, 70_000)  # "with FP8"
CURRICULUM = 3.3
LONGEST = 4096
BEST_PUBLIC_MFU = 0.62  # llm.c, GPT-2 350M on 8xA100, PaLM convention


def speed_claims(facts: Facts) -> tuple[Claim, ...]:
    """Judge rates, hours, dollars, and whether they agree with one another."""
    stages = tuple(_stage_hours(facts, domain) for domain in STAGE_HOURS)
    return (
        _rate("40-45K tokens/s on 8x A100", facts.on_a100, promised=ON_A100),
        _rate("60-70K tokens/s on 8x H100 with FP8", facts.on_h100, promised=ON_H100),
        *stages,
        _hours(facts),
        _agreement(facts),
        _price(facts),
        _under_200(facts),
        _curriculum(facts),
    )


def _rate(name: str, bill: Bill, *, promised: tuple[int, int]) -> Claim:
    low, high = promised
    shares = [mfu_of_rate(bill, rate) for rate in promised]
    meaning = f"the promise means an MFU of {_percents(*shares)} (PaLM)"
    computed, mfu, hours = bill.tokens_per_s, bill.machine.mfu, bill.total.hours
    if computed is None or mfu is None or hours is None:
        why = f"{meaning}; {bill.machine.why_unknown}"
        return Claim(name, low, "tokens/s", None, None, why, promised_high=high)
    slowest, fastest = (format_count(bill.tokens / h / 3600) for h in (hours.high, hours.low))
    rates = f"{slowest} tokens/s" if slowest == fastest else f"{slowest} to {fastest} tokens/s"
    holds = low * (1 - TOLERANCE) <= computed <= high * (1 + TOLERANCE)
    why = f"bf16 at an MFU of {_percents(mfu.low, mfu.high)} gives {rates}; {meaning}"
    return Claim(name, low, "tokens/s", computed, holds, why, promised_high=high)


def _stage_hours(facts: Facts, domain: str) -> Claim:
    promised, bill = STAGE_HOURS[domain], facts.on_a100
    name = f"the {domain} stage takes {promised:g} hours on 8x A100"
    position = stage_of(facts.config, domain)
    if position is None:
        why = f"no stage of this configuration reads the domain {domain}"
        return Claim(name, promised, "hours", None, None, why)
    tokens = facts.config.stages[position].training.total_tokens
    return _within(name, promised, bill=bill, hours=bill.stages[position].hours, tokens=tokens)


def _hours(facts: Facts) -> Claim:
    bill = facts.on_a100
    name = "about 18 hours in all on 8x A100"
    return _within(name, HOURS, bill=bill, hours=bill.total.hours, tokens=bill.tokens)


def _within(name: str, promised: float, *, bill: Bill, hours: Range | None, tokens: int) -> Claim:
    """Judge a promised duration; a shorter one than promised keeps the promise."""
    mfu = bill.machine.mfu
    if hours is None or mfu is None:
        return Claim(name, promised, "hours", None, None, str(bill.machine.why_unknown))
    rate = tokens / promised / 3600
    needed = mfu.value * hours.value / promised
    taken = span(hours, format_hours, between="-")
    why = (
        f"{taken} h at an MFU of {_percents(mfu.low, mfu.high)}; {format_count(tokens)} "
        f"tokens in {promised:g} h is {format_count(rate)} tokens/s, an MFU of {percent(needed)}"
    )
    if needed > 1:
        why += ", more than the cards can multiply"
    elif needed > BEST_PUBLIC_MFU:
        why += f", above the {percent(BEST_PUBLIC_MFU)} of the best public run we know"
    return Claim(
        name, promised, "hours", hours.value, hours.value <= promised * (1 + TOLERANCE), why
    )


def _agreement(facts: Facts) -> Claim:
    name = "about 18 hours at 40-45K tokens/s"
    slow, fast = (facts.tokens / rate / 3600 for rate in ON_A100)
    why = (
        f"the promises contradict each other: at 45K and 40K tokens/s {format_count(facts.tokens)} "
        f"tokens take {fast / 24:.1f} and {slow / 24:.1f} days"
    )
    holds = fast <= HOURS * (1 + TOLERANCE)
    if holds:
        hours = span(Range(fast, fast, slow), format_hours, between="-")
        why = f"{format_count(facts.tokens)} tokens take {hours} h at 45-40K tokens/s"
    return Claim(name, HOURS, "hours", fast, holds, why)


def _price(facts: Facts) -> Claim:
    bill, usd = facts.on_a100, facts.on_a100.total.usd
    name = "about $105 in all on 8x A100"
    gpu_hours = HOURS * bill.machine.count
    meaning = f"$105 for 18 h of 8 cards would be ${USD / gpu_hours:.2f} per GPU-hour"
    rent = bill.machine.usd_per_gpu_hour
    if usd is None or rent is None:
        why = f"{bill.machine.why_unknown}; {meaning}"
        return Claim(name, USD, "usd", None, None, why)
    why = f"{_dollars(bill)}; {meaning}"
    if USD / gpu_hours < rent.low:
        why += f", below the lowest rent of the table (${rent.low:.2f})"
    return Claim(name, USD, "usd", usd.value, usd.value <= USD * (1 + TOLERANCE), why)


def _under_200(facts: Facts) -> Claim:
    """Judge by the likely figure on the cheaper of the two promised machines."""
    name = "under $200 in all"
    bills = [bill for bill in (facts.on_a100, facts.on_h100) if bill.total.usd is not None]
    likely = [bill.total.usd.value for bill in bills if bill.total.usd is not None]
    if not likely:
        why = str(facts.on_a100.machine.why_unknown)
        return Claim(name, LARGEST_USD, "usd", None, None, why)
    why = "; ".join(_dollars(bill) for bill in bills) + "; all before evaluation and restarts"
    return Claim(name, LARGEST_USD, "usd", min(likely), min(likely) < LARGEST_USD, why)


def _curriculum(facts: Facts) -> Claim:
    """Judge what the shorter sequences save in operations, at the same number of tokens."""
    name = "sequence curriculum: 3.3x faster"
    model = facts.config.model
    longest = min(LONGEST, model.max_position_embeddings)
    constant = facts.tokens * flops_per_token(model, longest)
    saved = constant / facts.on_a100.flops
    limit = flops_per_token(model, longest) / flops_per_token(model, 0)
    why = (
        f"against a constant {longest:,} the same tokens cost {saved:.2f} times fewer operations "
        f"(PaLM), and with the shortest sequences at most {limit:.2f} times; the rest would have "
        "to come from learning faster per token, which no arithmetic shows"
    )
    return Claim(name, CURRICULUM, "x", saved, saved >= CURRICULUM * (1 - TOLERANCE), why)


def _dollars(bill: Bill) -> str:
    usd, hours, rent = bill.total.usd, bill.total.hours, bill.machine.usd_per_gpu_hour
    if usd is None or hours is None or rent is None:
        return f"{bill.machine.name}: unknown"
    paid, taken = span(usd, format_usd, between="-"), span(hours, format_hours, between="-")
    rents = span(rent, "${:.2f}".format, between="-")
    return f"{bill.machine.name}: {paid} for {taken} h at {rents} per GPU-hour"


def _percents(low: float, high: float) -> str:
    one, other = figures(100 * low, 2), figures(100 * high, 2)
    return f"{one} %" if one == other else f"{one}-{other} %"
