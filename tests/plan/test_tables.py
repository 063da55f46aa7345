"""README.md and docs/costs.md say what the plan says: what fails here is how it reads now."""

from pathlib import Path

import pytest

from yxanul.config.load import load_config
from yxanul.plan.cost import Bill, affordable_parameters, affordable_tokens, mfu_of_rate
from yxanul.plan.hardware import FASTER, PROMISED
from yxanul.plan.parameters import parameter_count
from yxanul.plan.summary import Plan, plan_run
from yxanul.plan.tables import figures, span
from yxanul.units import format_count, format_hours, format_usd

ROOT = Path(__file__).parents[2]
WIDER = "28x768-6080"
# Promised on 8 A100.
SLOWEST, FASTEST, HOURS, USD = 40_000, 45_000, 18, 105


@pytest.fixture(scope="module")
def plan() -> Plan:
    return plan_run(load_config(ROOT / "configs"))


@pytest.fixture(scope="module")
def page() -> str:
    return words("README.md")


def words(page: str) -> str:
    return " ".join((ROOT / page).read_text(encoding="utf-8").split())


def bill_on(plan: Plan, machine: str) -> Bill:
    return next(bill for bill in plan.bills if bill.machine.name == machine)


def computed(plan: Plan, claim: str) -> float:
    return next(one.computed for one in plan.claims if one.claim == claim)


def row(plan: Plan, promise: str, figure: str, *, claim: str = "", why: str = "") -> str:
    """Return a row of README's table; the claim may be called otherwise there."""
    holds = next(one.holds for one in plan.claims if one.claim == (claim or promise))
    return f"| {promise} | {figure} | {'holds' if holds else 'does not hold'}{why} |"


def test_the_readme_judges_the_models_size_as_the_plan_does(plan, page):
    model, total = plan.model, plan.count.total
    wider = parameter_count(load_config(ROOT / "configs", model=WIDER).model).total
    shape = f"{model.num_hidden_layers} layers x {model.hidden_size} with FFN "
    shape += f"{model.intermediate_size:,} and {model.vocab_size:,} tied rows"
    why = f": {shape} give {total / 1e6:.1f}M. `--model {WIDER}` has {wider / 1e6:.1f}M"
    assert row(plan, "about 497M parameters", f"{total:,}", why=why) in page
    assert row(plan, "under 0.6B parameters", f"{total:,}") in page


def test_the_readme_judges_the_tokens_as_the_plan_does(plan, page):
    budgets = " + ".join(format_count(stage.budget.tokens) for stage in plan.stages)
    total, claim = format_count(plan.total_tokens), "57.4B tokens in all"
    assert row(plan, f"57.4B tokens: {budgets}", total, claim=claim) in page
    claim = "100 epochs of mathematics count as 100"
    worth = f"worth {figures(computed(plan, claim), 3)} fresh ones"
    law = " (fitted law of arXiv 2305.16264)"
    assert row(plan, "100 epochs of mathematics", worth, claim=claim, why=law) in page
    unique = [stage.budget.unique_tokens for stage in plan.stages]
    why = ": " + " + ".join(f"{tokens / 1e9:g}B" for tokens in unique)
    assert row(plan, "4B curated unique tokens", format_count(sum(unique)), why=why) in page


def test_the_readme_judges_the_speed_as_the_plan_does(plan, page):
    bill = bill_on(plan, PROMISED)
    hours, mfu = bill.total.hours, bill.machine.mfu
    low, high = (plan.total_tokens / each / 3600 / 1000 for each in (hours.high, hours.low))
    meant = 100 * mfu_of_rate(bill, (SLOWEST + FASTEST) / 2)
    claim, why = "40-45K tokens/s on 8x A100", f": the promise means an MFU of {meant:.0f} %"
    rates = f"{low:.0f}-{high:.0f}K"
    assert row(plan, "40-45K tokens/s on 8xA100", rates, claim=claim, why=why) in page
    needed = 100 * mfu.value * hours.value / HOURS
    least, most = (plan.total_tokens / rate / 86_400 for rate in (FASTEST, SLOWEST))
    why = f": 18 h would be an MFU of {needed:.0f} %; at 40-45K tokens/s it would be "
    why += f"{least:.0f} to {most:.0f} days"
    taken, claim = span(hours, format_hours, between="-"), "about 18 hours in all on 8x A100"
    assert row(plan, "18 hours on 8xA100", f"{taken} h", claim=claim, why=why) in page
    claim, why = "sequence curriculum: 3.3x faster", " by operations"
    saved = f"{figures(computed(plan, claim), 3)}x"
    assert row(plan, "sequence curriculum: 3.3x", saved, claim=claim, why=why) in page


def test_the_readme_judges_the_money_as_the_plan_does(plan, page):
    bill, claim = bill_on(plan, PROMISED), "about $105 in all on 8x A100"
    why = f": ${USD / HOURS / bill.machine.count:.2f} per GPU-hour"
    assert row(plan, "about $105", dollars(bill), claim=claim, why=why) in page
    paid, claim = f"{FASTER}: {dollars(bill_on(plan, FASTER))}", "under $200 in all"
    assert row(plan, "under $200", paid, claim=claim, why=" at likely rents") in page


def dollars(bill: Bill) -> str:
    low, high = (format_usd(usd) for usd in (bill.total.usd.low, bill.total.usd.high))
    return f"{low}-{high.removeprefix('$')}, likely {format_usd(bill.total.usd.value)}"


@pytest.mark.parametrize("machine", [PROMISED, FASTER])
def test_the_machines_of_the_page_of_costs_are_the_plans(plan, machine):
    bill = bill_on(plan, machine)
    mfu, hours, usd = bill.machine.mfu, bill.total.hours, bill.total.usd
    cells = (
        machine,
        f"{100 * mfu.low:.0f}-{100 * mfu.high:.0f} %",
        f"{format_hours(hours.value)} ({span(hours, format_hours, between=' to ')})",
        f"{format_usd(usd.value)} ({span(usd, format_usd, between=' to ')})",
    )
    assert f"| {' | '.join(cells)} |" in words("docs/costs.md")


def test_what_200_dollars_buy_stands_on_the_page_of_costs(plan):
    bill = bill_on(plan, FASTER)
    bought = affordable_tokens(bill, 200)
    size = affordable_parameters(bill, plan.count.total, usd=200)
    tokens = [f"{amount / 1e9:.1f}B" for amount in (bought.value, bought.low, bought.high)]
    sizes = [f"{amount / 1e6:.0f}M" for amount in (size.value, size.low, size.high)]
    told = f"for $200 on {FASTER} {tokens[0]} tokens ({tokens[1]} to {tokens[2]}), or "
    told += f"{sizes[0]} parameters ({sizes[1]} to {sizes[2]})"
    assert told in words("docs/costs.md")
