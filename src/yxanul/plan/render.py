"""The plan as tables for a terminal, written for somebody who sees such numbers for the first time.

It computes nothing; every figure comes from the Plan.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from yxanul.plan.summary import WHY_NO_HOURS, Plan
from yxanul.units import format_bytes, format_count

if TYPE_CHECKING:
    from rich.console import Group
    from rich.table import Table

_VERDICT = {True: "holds", False: "does not hold", None: "cannot be computed here"}


def render(plan: Plan) -> Group:
    """Return the plan as one rich renderable: model, operations, memory, stages, claims."""
    from rich.console import Group
    from rich.text import Text

    parts = (
        _model_table(plan),
        _flops_table(plan),
        _memory_table(plan),
        _stages_table(plan),
        _claims_table(plan),
    )
    spaced = [piece for part in parts for piece in (part, Text())]
    return Group(*spaced, Text(f"Not in this plan: {WHY_NO_HOURS}."))


def _table(title: str, *columns: str, caption: str | None = None) -> Table:
    """Return an empty table: the first column is text, the others are numbers to the right."""
    from rich.table import Table

    table = Table(title=title, title_justify="left", caption=caption, caption_justify="left")
    for i, column in enumerate(columns):
        table.add_column(column, justify="right" if i else "left")
    return table


def _model_table(plan: Plan) -> Table:
    model, count = plan.model, plan.count
    table = _table(
        f"The model {model.name}: {format_count(count.total)} parameters",
        "part",
        "parameters",
        "share",
        caption="A parameter is one learned number. The embedding turns tokens into vectors; here "
        "it is also the head that turns vectors back into tokens.",
    )
    rows = (
        ("embedding and head", count.embedding),
        (f"attention, {count.layers} layers", count.layers * count.attention_per_layer),
        (f"feed-forward, {count.layers} layers", count.layers * count.ffn_per_layer),
        ("norms", count.norms),
        ("total", count.total),
    )
    for name, number in rows:
        table.add_row(name, f"{number:,}", f"{number / count.total:.1%}")
    return table


def _flops_table(plan: Plan) -> Table:
    table = _table(
        "Work per trained token",
        "sequence length",
        "PaLM convention",
        "causal convention",
        caption="Billions of floating-point operations, forward and backward. Longer sequences "
        "cost more because each token looks at all tokens before it. PaLM counts the whole square "
        "of attention, causal the half that is needed; name the convention with every figure.",
    )
    for length, (palm, causal) in plan.flops.items():
        table.add_row(f"{length:,}", f"{palm / 1e9:.3f} G", f"{causal / 1e9:.3f} G")
    return table


def _memory_table(plan: Plan) -> Table:
    need = plan.memory
    table = _table(
        "Memory of one process while training",
        "part",
        "size",
        caption="An estimate by arithmetic; a machine needs somewhat more. Activations are "
        f"what the backward pass needs again, for {need.micro_batch_tokens:,} tokens at a time; a "
        "smaller micro_batch_tokens needs less.",
    )
    rows = (
        ("weights (fp32)", need.weights),
        ("gradients (fp32)", need.gradients),
        ("optimizer state (fp32)", need.optimizer),
        ("bf16 copies of the matrices", need.working_copies),
        ("activations", need.activations),
        ("total", need.total),
    )
    for name, number in rows:
        table.add_row(name, format_bytes(number))
    return table


def _stages_table(plan: Plan) -> Table:
    table = _table(
        f"The stages: {format_count(plan.total_tokens)} tokens, {plan.total_flops:.3g} operations",
        "stage",
        "tokens",
        "steps",
        "epochs",
        "worth",
        "next token",
        caption="Epochs: passes over the stage's own data (replay of earlier stages is left out). "
        "Worth: how many passes over fresh data of that size they equal. Next token: what one more "
        "repeated token brings, where a fresh one brings 1. A ? is not known before the data is "
        "read.",
    )
    for stage in plan.stages:
        budget = stage.budget
        table.add_row(
            budget.name,
            format_count(budget.tokens),
            f"{budget.steps:,}",
            _number(budget.epochs, 1),
            _number(budget.effective_epochs, 2),
            _number(stage.last_token_worth, 3),
        )
    return table


def _claims_table(plan: Plan) -> Table:
    table = _table("What was promised, and what follows from this configuration", "promise")
    table.add_column("computed", justify="right")
    table.add_column("verdict")
    table.add_column("why")
    for claim in plan.claims:
        computed = "?" if claim.computed is None else format_count(claim.computed)
        table.add_row(claim.claim, computed, _VERDICT[claim.holds], claim.why)
    return table


def _number(value: float | None, digits: int) -> str:
    return "?" if value is None else f"{value:.{digits}f}"
