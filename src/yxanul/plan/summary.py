"""A whole plan as one value: what can be known about a run before it starts.

Hours, dollars and throughput need a table of measured hardware, which a later version brings; they
are None here, with the reason. The field names of `plan_json` are a contract with other programs.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from yxanul.config.schema import ModelConfig, RunConfig
from yxanul.plan.budget import StageBudget, marginal_value, stage_budget
from yxanul.plan.claims import Claim, claims
from yxanul.plan.flops import Convention, flops_per_token, stage_flops
from yxanul.plan.memory import Memory, memory
from yxanul.plan.parameters import ParameterCount, parameter_count

WHY_NO_HOURS = (
    "hours and dollars need measured speeds and rents of machines; this version plans parameters, "
    "operations, memory and tokens only"
)
_LENGTHS = (512, 1024, 2048, 4096)


@dataclass(frozen=True, slots=True)
class StagePlan:
    """One stage: its budget, what its next token is worth at the end, its operations (PaLM)."""

    budget: StageBudget
    last_token_worth: float | None
    flops: int


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything the plan knows; `flops` maps a sequence length to (PaLM, causal) per token."""

    model: ModelConfig
    count: ParameterCount
    flops: dict[int, tuple[int, int]]
    memory: Memory
    stages: tuple[StagePlan, ...]
    claims: tuple[Claim, ...]

    @property
    def total_tokens(self) -> int:
        """Tokens of all stages together."""
        return sum(stage.budget.tokens for stage in self.stages)

    @property
    def total_flops(self) -> int:
        """Operations of all stages together, PaLM convention."""
        return sum(stage.flops for stage in self.stages)


def plan_run(config: RunConfig) -> Plan:
    """Return the plan of a configuration; pure arithmetic, no machine is looked at."""
    longest = config.model.max_position_embeddings
    lengths = {length for length in _LENGTHS if length <= longest} | {
        phase.seq_len for stage in config.stages for phase in stage.training.seq_len_curriculum
    }
    budgets = [stage_budget(config, stage) for stage in config.stages]
    return Plan(
        model=config.model,
        count=parameter_count(config.model),
        flops={
            length: (
                flops_per_token(config.model, length, convention="palm"),
                flops_per_token(config.model, length, convention="causal"),
            )
            for length in sorted(lengths)
        },
        memory=memory(config),
        stages=tuple(
            StagePlan(
                budget=budget,
                last_token_worth=None if budget.epochs is None else marginal_value(budget.epochs),
                flops=stage_flops(config.model, stage),
            )
            for budget, stage in zip(budgets, config.stages, strict=True)
        ),
        claims=claims(config),
    )


def plan_json(plan: Plan, convention: Convention = "palm") -> dict[str, Any]:
    """Return the plan as plain values for `--json`; unknown figures are None beside a `why`."""
    column = 0 if convention == "palm" else 1
    return {
        "model": plan.model.name,
        "parameters": plan.count.total,
        "parameters_non_embedding": plan.count.non_embedding,
        "flops_per_token": {
            "convention": convention,
            "by_seq_len": {str(length): pair[column] for length, pair in plan.flops.items()},
        },
        "memory_bytes": {**asdict(plan.memory), "total": plan.memory.total},
        "stages": [_stage_json(stage) for stage in plan.stages],
        "total_tokens": plan.total_tokens,
        "total_flops": plan.total_flops,
        "total_hours": None,
        "total_usd": None,
        "tokens_per_s": None,
        "ram_bytes": None,
        "disk_bytes": None,
        "why": WHY_NO_HOURS,
        "claims": [asdict(claim) for claim in plan.claims],
    }


def _stage_json(stage: StagePlan) -> dict[str, Any]:
    return {
        **asdict(stage.budget),
        "last_token_worth": stage.last_token_worth,
        "flops": stage.flops,
        "hours": None,
        "usd": None,
    }
