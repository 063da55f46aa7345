"""Hours and dollars as tables: one machine stage by stage, or many side by side."""

from __future__ import annotations

from typing import TYPE_CHECKING

from yxanul.plan.cost import (
    OVERHEAD,
    Bill,
    Cost,
    affordable_parameters,
    affordable_tokens,
)
from yxanul.plan.hardware import Assumption
from yxanul.plan.summary import Plan
from yxanul.plan.tables import explained, new_table, percent, span
from yxanul.units import format_count, format_flops, format_hours, format_usd

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import RenderableType
    from rich.table import Table

_SIDE_BY_SIDE = 4  # machines whose stages stand side by side: as many as 80 columns hold


def cost_parts(plan: Plan) -> list[RenderableType]:
    """Return the tables of hours and dollars, or the sentence that says why there are none."""
    from rich.text import Text

    parts: list[RenderableType] = []
    if plan.bill.total.hours is None:
        parts.append(Text(f"Hours and dollars: not known, since {plan.bill.machine.why_unknown}."))
    else:
        parts.append(_stages_table(plan))
    if plan.budget_usd is not None:
        parts.append(Text(_budget(plan, plan.budget_usd)))
    if not plan.chosen:
        parts += _comparison(plan)
    if plan.notes:
        parts.append(Text("\n".join(f"- {note}" for note in plan.notes)))
    return parts


def _stages_table(plan: Plan) -> RenderableType:
    """Every stage on the machine that the plan speaks of, with the overhead on lines of its own."""
    bill = plan.bill
    table = new_table(
        f"Hours and dollars on {bill.machine.name}",
        "stage",
        "hours",
        "from - to",
        "dollars",
        "from - to",
    )
    for stage in plan.stages:
        table.add_row(stage.budget.name, *_cells(stage.cost))
    table.add_section()
    table.add_row("total, training alone", *_cells(bill.total))
    table.add_row("on top, 5-10 %", *_cells(bill.overhead))
    table.add_row("extensions may add", *_cells(bill.extensions))
    table.add_row("rollbacks may add", *_cells(bill.rollbacks))
    return explained(table, _assumptions(bill))


def _assumptions(bill: Bill) -> str:
    machine = bill.machine
    rate = "?" if bill.tokens_per_s is None else format_count(bill.tokens_per_s)
    lines = [
        f"{rate} tokens/s. On top: {OVERHEAD} (an estimate). Extensions lengthen a stage that "
        "still learns, rollbacks begin one anew that broke down or forgot: as often as its gate "
        "allows (gate.extension, gate.rollback), within the budget of the run.",
        f"MFU, the share of the cards' peak ({format_flops(machine.card.dense_bf16_flops)} "
        f"each) that the run reaches, PaLM convention: {_assumed(machine.mfu, percent)}.",
        f"Dollars per GPU-hour: {_assumed(machine.usd_per_gpu_hour, '{:.2f}'.format)}.",
    ]
    if machine.why_unknown is not None:
        lines.append(f"Dollars are not known: {machine.why_unknown}.")
    return "\n".join(lines)


def _budget(plan: Plan, usd: float) -> str:
    name, bought = plan.bill.machine.name, affordable_tokens(plan.bill, usd)
    if bought is None:
        why = plan.bill.machine.why_unknown or "at no rent there is no bound"
        return f"What {format_usd(usd)} buys on {name} is not known: {why}."
    size = affordable_parameters(plan.bill, plan.count.total, usd=usd)
    ratio = plan.total_tokens / plan.count.total
    return (
        f"{format_usd(usd)} buys {format_count(bought.value)} tokens on {name} "
        f"({span(bought, format_count)}), {percent(bought.value / plan.total_tokens)} of the "
        "plan, before what comes on top. At the plan's "
        f"{ratio:,.0f} tokens per parameter it trains a model of about "
        f"{'?' if size is None else format_count(size.value)} parameters "
        f"({span(size, format_count)})."
    )


def _comparison(plan: Plan) -> list[RenderableType]:
    """The first machines stage by stage, then every machine's total."""
    from rich.text import Text

    known = [bill for bill in plan.bills if bill.total.hours is not None]
    unknown = [bill.machine for bill in plan.bills if bill.total.hours is None]
    parts: list[RenderableType] = []
    if known:
        parts += [_side_by_side(plan, known[:_SIDE_BY_SIDE]), _totals(known)]
    if unknown:
        names = ", ".join(dict.fromkeys(machine.card.name for machine in unknown))
        parts.append(
            Text(
                f"Known cards without an MFU for this model: {names}. Give --mfu, or choose one "
                "with --gpus and --mfu."
            )
        )
    return parts


def _side_by_side(plan: Plan, bills: list[Bill]) -> Table:
    table = new_table(
        "Hours and likely dollars of every stage", "stage", *(bill.machine.name for bill in bills)
    )
    for position, stage in enumerate(plan.stages):
        costs = [bill.stages[position] for bill in bills]
        table.add_row(stage.budget.name, *(_both(cost) for cost in costs))
    table.add_section()
    table.add_row("total", *(_both(bill.total) for bill in bills))
    return table


def _totals(bills: list[Bill]) -> RenderableType:
    table = new_table(
        "The whole plan by machine, training alone",
        "machine",
        "MFU",
        "tokens/s",
        "hours",
        "$/GPU-hour",
        "dollars",
        "from - to",
    )
    for bill in bills:
        mfu, rent = bill.machine.mfu, bill.machine.usd_per_gpu_hour
        _, hours_span, usd, usd_span = _cells(bill.total)
        table.add_row(
            bill.machine.name,
            "?" if mfu is None else percent(mfu.value),
            "?" if bill.tokens_per_s is None else format_count(bill.tokens_per_s),
            hours_span,
            "?" if rent is None else f"{rent.value:.2f}",
            usd,
            usd_span,
        )
    return explained(
        table,
        "A ? in dollars: no rent of that card was found; choose it with --gpus and give "
        "--usd_per_gpu_hour.",
    )


def _cells(cost: Cost) -> tuple[str, str, str, str]:
    return (
        "?" if cost.hours is None else format_hours(cost.hours.value),
        span(cost.hours, format_hours),
        "?" if cost.usd is None else format_usd(cost.usd.value),
        span(cost.usd, format_usd),
    )


def _both(cost: Cost) -> str:
    hours, _, usd, _ = _cells(cost)
    return f"{hours} h, {usd}"


def _assumed(assumption: Assumption | None, write: Callable[[float], str]) -> str:
    if assumption is None:
        return "?"
    likely = write(assumption.value)
    if assumption.low < assumption.high:
        likely += f" ({span(assumption, write, between=' to ')})"
    return f"{likely}, {assumption.source}"
