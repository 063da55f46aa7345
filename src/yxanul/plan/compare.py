"""Several recipes side by side, as a table: what each trains, what it costs, what it is worth.

It computes one thing of its own, the worth of the tokens; the rest comes from the plans.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from yxanul.plan.cost import Range, affordable_tokens
from yxanul.plan.summary import Plan
from yxanul.plan.tables import explained, new_table, percent, span
from yxanul.units import format_bytes, format_count, format_hours, format_usd

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from rich.console import RenderableType

_UNKNOWN = "?"
_NO_BOUND = "At no rent there is no bound to the tokens that a budget buys."


def fresh_tokens(plan: Plan) -> float | None:
    """Return how many tokens read once the plan's are worth; None: a stage's data is not known.

    A stage's own tokens count by the data-constrained law (`yxanul.plan.budget`), its replay not.
    """
    worth = 0.0
    for stage in plan.stages:
        budget = stage.budget
        if budget.unique_tokens is None or budget.effective_epochs is None:
            return None
        worth += budget.unique_tokens * budget.effective_epochs
    return worth


def comparison(plans: Mapping[str, Plan]) -> RenderableType:
    """Return the table of {what the user calls a recipe: its plan}, a column for each.

    What the machine's notes say of every recipe is said once, of some with their names.
    """
    from rich.console import Group
    from rich.text import Text

    machine = next(iter(plans.values())).bill.machine.name
    titles = _titles(list(plans))
    table = new_table(f"{len(plans)} recipes on {machine}", "", *titles)
    table.columns[0].no_wrap = True
    for name, write in _lines(next(iter(plans.values())).budget_usd):
        table.add_row(name, *(write(plan) for plan in plans.values()))
    told = explained(table, _told(plans))
    notes = _notes(dict(zip(titles, plans.values(), strict=True)))
    return Group(told, Text("\n".join(f"- {note}" for note in notes))) if notes else told


def _lines(budget_usd: float | None) -> list[tuple[str, Callable[[Plan], str]]]:
    lines: list[tuple[str, Callable[[Plan], str]]] = [
        ("model", lambda plan: plan.model.name),
        ("parameters", lambda plan: format_count(plan.count.total)),
        ("stages", lambda plan: str(len(plan.stages))),
        ("tokens", lambda plan: format_count(plan.total_tokens)),
        ("worth in fresh tokens", lambda plan: _count(fresh_tokens(plan))),
        ("most epochs of a stage", _epochs),
        ("tokens per parameter", lambda plan: f"{plan.total_tokens / plan.count.total:,.0f}"),
        ("operations (PaLM)", lambda plan: f"{plan.total_flops:.3g}"),
        ("memory of a process", lambda plan: format_bytes(plan.memory.total)),
        ("disk", lambda plan: _bytes(plan.disk_bytes)),
        ("hours", lambda plan: _likely(plan.bill.total.hours, format_hours)),
        ("  from - to", lambda plan: span(plan.bill.total.hours, format_hours)),
        ("dollars", lambda plan: _likely(plan.bill.total.usd, format_usd)),
        ("  from - to", lambda plan: span(plan.bill.total.usd, format_usd)),
    ]
    if budget_usd is not None:

        def bought(plan: Plan) -> Range | None:
            return affordable_tokens(plan.bill, budget_usd)

        lines += [
            (f"tokens for {format_usd(budget_usd)}", lambda p: _likely(bought(p), format_count)),
            ("  from - to", lambda plan: span(bought(plan), format_count)),
            ("share of the plan", lambda plan: _share(bought(plan), plan)),
        ]
    return lines


def _told(plans: Mapping[str, Plan]) -> str:
    why = {reason for plan in plans.values() if (reason := plan.bill.machine.why_unknown)}
    return " ".join(
        [
            "Hours and dollars: training alone. Fresh tokens: what the tokens are worth against "
            "ones that are read once, without replay (fitted law of arXiv 2305.16264). A ? is not "
            "known before the data is read.",
            *(f"Not known: {reason}." for reason in sorted(why)),
            *([_NO_BOUND] if any(map(_is_free, plans.values())) else []),
        ]
    )


def _is_free(plan: Plan) -> bool:
    price = plan.bill.total.usd
    return plan.budget_usd is not None and price is not None and price.low == 0


def _notes(plans: Mapping[str, Plan]) -> list[str]:
    """Return what should be known before the machine is rented, each sentence once."""
    of: dict[str, list[str]] = {}
    for title, plan in plans.items():
        for note in plan.notes:
            of.setdefault(note, []).append(title)
    return [
        note if len(titles) == len(plans) else f"{', '.join(titles)}: {note}"
        for note, titles in of.items()
    ]


def _titles(names: list[str]) -> list[str]:
    """Return the last part of each path, or the whole ones where two would be called the same."""
    short = [Path(name).resolve().name for name in names]
    return short if len(set(short)) == len(short) else names


def _epochs(plan: Plan) -> str:
    epochs = [stage.budget.epochs for stage in plan.stages]
    known = [number for number in epochs if number is not None]
    return f"{max(known):.1f}" if len(known) == len(epochs) else _UNKNOWN


def _count(number: float | None) -> str:
    return _UNKNOWN if number is None else format_count(number)


def _bytes(number: int | None) -> str:
    return _UNKNOWN if number is None else format_bytes(number)


def _share(bought: Range | None, plan: Plan) -> str:
    return _UNKNOWN if bought is None else percent(bought.value / plan.total_tokens)


def _likely(amount: Range | None, write: Callable[[float], str]) -> str:
    return _UNKNOWN if amount is None else write(amount.value)
