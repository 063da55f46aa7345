"""The plan as plain values for `--json`; its field names are a contract with other programs."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from yxanul.plan.cost import (
    OVERHEAD,
    OVERHEAD_HIGH,
    OVERHEAD_LOW,
    Bill,
    Cost,
    Range,
    affordable_parameters,
    affordable_tokens,
)
from yxanul.plan.flops import Convention
from yxanul.plan.hardware import Machine
from yxanul.plan.summary import Plan, PlannedStage


def plan_json(plan: Plan, convention: Convention = "palm") -> dict[str, Any]:
    """Return the plan as plain values; what is unknown is None, and `why` says so in a sentence.

    Stages, totals and `tokens_per_s` speak of `hardware`, the chosen machine or the promised one.
    Totals are training alone; `overhead` is what comes on top, `extensions` and `rollbacks` what
    gates may add. `disk_bytes` counts all extensions, and `checkpoints_bytes` are a part of it.
    """
    column = 0 if convention == "palm" else 1
    bill = plan.bill
    return {
        "model": plan.model.name,
        "parameters": plan.count.total,
        "parameters_non_embedding": plan.count.non_embedding,
        "flops_per_token": {
            "convention": convention,
            "by_seq_len": {str(length): pair[column] for length, pair in plan.flops.items()},
        },
        "memory_bytes": {**asdict(plan.memory), "total": plan.memory.total},
        "ram_bytes": plan.ram_bytes,
        "disk_bytes": plan.disk_bytes,
        "checkpoints_bytes": plan.checkpoints_bytes,
        "hardware": {**_machine_json(bill.machine), "chosen": plan.chosen},
        "stages": [_stage_json(stage) for stage in plan.stages],
        "total_tokens": plan.total_tokens,
        "total_flops": plan.total_flops,
        **{f"total_{key}": value for key, value in _cost_json(bill.total).items()},
        "tokens_per_s": bill.tokens_per_s,
        "overhead": {
            "what": OVERHEAD,
            "share_low": OVERHEAD_LOW,
            "share_high": OVERHEAD_HIGH,
            **_cost_json(bill.overhead),
        },
        "extensions": _cost_json(bill.extensions),
        "rollbacks": {**_cost_json(bill.rollbacks), "disk_bytes": plan.rollbacks_bytes},
        "budget": _budget_json(plan),
        "why": bill.machine.why_unknown,
        "notes": list(plan.notes),
        "machines": [_bill_json(plan, one) for one in plan.bills],
        "claims": [asdict(claim) for claim in plan.claims],
    }


def _stage_json(stage: PlannedStage) -> dict[str, Any]:
    return {
        **asdict(stage.budget),
        "last_token_worth": stage.last_token_worth,
        "flops": stage.flops,
        **_cost_json(stage.cost),
    }


def _bill_json(plan: Plan, bill: Bill) -> dict[str, Any]:
    names = [stage.budget.name for stage in plan.stages]
    return {
        "name": bill.machine.name,
        "tokens_per_s": bill.tokens_per_s,
        **_cost_json(bill.total),
        "stages": [
            {"name": name, **_cost_json(cost)}
            for name, cost in zip(names, bill.stages, strict=True)
        ],
        "why": bill.machine.why_unknown,
    }


def _budget_json(plan: Plan) -> dict[str, float | None] | None:
    if plan.budget_usd is None:
        return None
    usd = plan.budget_usd
    bought = affordable_tokens(plan.bill, usd)
    size = affordable_parameters(plan.bill, plan.count.total, usd=usd)
    return {"usd": usd, **range_json("tokens", bought), **range_json("parameters", size)}


def _machine_json(machine: Machine) -> dict[str, Any]:
    card, mfu, rent = machine.card, machine.mfu, machine.usd_per_gpu_hour
    return {
        "name": machine.name,
        "gpus": machine.count,
        "card": card.name,
        "dense_bf16_flops": card.dense_bf16_flops,
        "memory_bytes": card.memory_bytes,
        "mfu": None if mfu is None else {**asdict(mfu), "convention": "palm"},
        "usd_per_gpu_hour": None if rent is None else asdict(rent),
    }


def _cost_json(cost: Cost) -> dict[str, float | None]:
    return {**range_json("hours", cost.hours), **range_json("usd", cost.usd)}


def range_json(name: str, amount: Range | None) -> dict[str, float | None]:
    """Return an amount and its bounds under three names; None for all that is unknown."""
    return {
        name: amount.value if amount else None,
        f"{name}_low": amount.low if amount else None,
        f"{name}_high": amount.high if amount else None,
    }
