"""The plan as tables for a terminal, written for somebody who sees such numbers for the first time.

It computes nothing; every figure comes from the Plan.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from yxanul.plan.render_claims import claim_parts
from yxanul.plan.render_cost import cost_parts
from yxanul.plan.summary import Plan
from yxanul.plan.tables import explained, new_table, number
from yxanul.units import format_bytes, format_count

if TYPE_CHECKING:
    from rich.console import Group, RenderableType


def render(plan: Plan) -> Group:
    """Return the plan as one rich renderable: model, work, memory, stages, cost, promises."""
    from rich.console import Group
    from rich.text import Text

    parts = (
        _model_table(plan),
        _flops_table(plan),
        _memory_table(plan),
        _stages_table(plan),
        *cost_parts(plan),
        *claim_parts(plan.claims),
    )
    return Group(*(piece for part in parts for piece in (part, Text())))


def _model_table(plan: Plan) -> RenderableType:
    model, count = plan.model, plan.count
    table = new_table(
        f"The model {model.name}: {format_count(count.total)} parameters",
        "part",
        "parameters",
        "share",
    )
    rows = (
        ("embedding and head", count.embedding),
        (f"attention, {count.layers} layers", count.layers * count.attention_per_layer),
        (f"feed-forward, {count.layers} layers", count.layers * count.ffn_per_layer),
        ("norms", count.norms),
        ("total", count.total),
    )
    for name, size in rows:
        table.add_row(name, f"{size:,}", f"{100 * size / count.total:.1f} %")
    return explained(
        table,
        "A parameter is one learned number. The embedding turns tokens into vectors; here "
        "it is also the head that turns vectors back into tokens.",
    )


def _flops_table(plan: Plan) -> RenderableType:
    table = new_table(
        "Work per trained token",
        "sequence length",
        "PaLM convention",
        "causal convention",
    )
    for length, (palm, causal) in plan.flops.items():
        table.add_row(f"{length:,}", f"{palm / 1e9:.3f} G", f"{causal / 1e9:.3f} G")
    return explained(
        table,
        "Billions of floating-point operations, forward and backward. Longer sequences "
        "cost more because each token looks at all tokens before it. PaLM counts the whole square "
        "of attention, causal the half that is needed; name the convention with every figure.",
    )


def _memory_table(plan: Plan) -> RenderableType:
    need = plan.memory
    table = new_table(
        "Memory of one process while training",
        "part",
        "size",
    )
    rows = (
        ("weights (fp32)", need.weights),
        ("gradients (fp32)", need.gradients),
        ("optimizer state (fp32)", need.optimizer),
        ("copies of the matrices", need.working_copies),
        ("activations", need.activations),
        ("total", need.total),
    )
    for name, size in rows:
        table.add_row(name, format_bytes(size))
    return explained(
        table,
        "By arithmetic, at the instant of an update when most is held; torch itself and scraps of "
        "memory come on top. Activations are what the backward pass needs again, for "
        f"{need.micro_batch_tokens:,} tokens at a time; a smaller micro_batch_tokens needs less. "
        f"The machine around it: {format_bytes(plan.ram_bytes)} of main memory when "
        f"{plan.bill.machine.count} processes resume, {_disk(plan)} of disk for shards and "
        "checkpoints if gates lengthen every stage, and as they begin stages anew up to "
        f"{format_bytes(plan.rollbacks_bytes)} more.",
    )


def _stages_table(plan: Plan) -> RenderableType:
    table = new_table(
        f"The stages: {format_count(plan.total_tokens)} tokens, {plan.total_flops:.3g} operations",
        "stage",
        "tokens",
        "steps",
        "epochs",
        "worth",
        "next token",
    )
    for stage in plan.stages:
        budget = stage.budget
        table.add_row(
            budget.name,
            format_count(budget.tokens),
            f"{budget.steps:,}",
            number(budget.epochs, 1),
            number(budget.effective_epochs, 2),
            number(stage.last_token_worth, 3),
        )
    return explained(
        table,
        "Epochs: passes over the stage's own data (replay of earlier stages is left out). "
        "Worth: how many passes over fresh data of that size they equal. Next token: what one more "
        "repeated token brings, where a fresh one brings 1. A ? is not known before the data is "
        "read.",
    )


def _disk(plan: Plan) -> str:
    if plan.disk_bytes is None:
        return f"at least {format_bytes(plan.checkpoints_bytes)}"
    return format_bytes(plan.disk_bytes)
