"""A whole plan as one value: what can be known about a run before it starts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial, reduce
from itertools import combinations

from yxanul.config.schema import ModelConfig, OptimizationConfig, RunConfig, StageConfig
from yxanul.config.sharing import unequal_shares
from yxanul.plan.budget import StageBudget, marginal_value, stage_budget
from yxanul.plan.claims.claim import Claim
from yxanul.plan.claims.judge import claims
from yxanul.plan.cost import Bill, Cost, bill
from yxanul.plan.flops import flops_per_token, stage_flops
from yxanul.plan.hardware import Machine, Wishes, shown_machines
from yxanul.plan.memory import (
    ASSUMED_TOKENS,
    CARD_SHARE,
    Memory,
    largest_micro_batch,
    memory,
    recomputing_on,
)
from yxanul.plan.parameters import ParameterCount, parameter_count
from yxanul.plan.storage import (
    disk_bytes,
    kept_checkpoint_bytes,
    ram_bytes,
    rollbacks_bytes,
)

_Change = Callable[[RunConfig], RunConfig]
_LENGTHS = (512, 1024, 2048, 4096)


@dataclass(frozen=True, slots=True)
class PlannedStage:
    """One stage: budget, worth of its next token at the end, operations (PaLM), hours, dollars."""

    budget: StageBudget
    last_token_worth: float | None
    flops: int
    cost: Cost


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything the plan knows.

    `flops` maps a sequence length to (PaLM, causal) per token. `bills` are the machines compared;
    the first is the one that stages, totals and notes speak of, and `chosen` says that the user
    named it. `budget_usd` is what the user would spend. `disk_bytes` is None where a stage's tokens
    are not known before its data is read; `checkpoints_bytes` are a part of it. Gates that begin
    stages anew may leave `rollbacks_bytes` of them more.
    """

    model: ModelConfig
    count: ParameterCount
    flops: dict[int, tuple[int, int]]
    memory: Memory
    stages: tuple[PlannedStage, ...]
    bills: tuple[Bill, ...]
    chosen: bool
    budget_usd: float | None
    ram_bytes: int
    disk_bytes: int | None
    checkpoints_bytes: int
    rollbacks_bytes: int
    notes: tuple[str, ...]
    claims: tuple[Claim, ...]

    @property
    def bill(self) -> Bill:
        """The bill of the machine that the plan speaks of."""
        return self.bills[0]

    @property
    def total_tokens(self) -> int:
        """Tokens of all stages together."""
        return self.bill.tokens

    @property
    def total_flops(self) -> int:
        """Operations of all stages together, PaLM convention."""
        return self.bill.flops


def plan_run(config: RunConfig, wishes: Wishes | None = None) -> Plan:
    """Return the plan of a configuration; pure arithmetic, no machine is looked at.

    A machine that does not exist is a `UsageError`.
    """
    wishes = wishes or Wishes()
    is_chosen = wishes.gpus is not None or wishes.own is not None
    machines = shown_machines(config, wishes)
    settled = config if wishes.own is None else wishes.own.settled(config)
    card_bytes, count = machines[0].card.memory_bytes, machines[0].count
    settled = recomputing_on(settled, card_bytes, processes=count)
    # An open share of recomputed blocks is settled for the tokens that fit with it.
    is_fitted = is_chosen or config.optimization.compute.is_share_open
    is_mfu_assumed = wishes.mfu is None and wishes.own is None
    bills = tuple(bill(config.model, config.stages, machine=machine) for machine in machines)
    return Plan(
        model=config.model,
        count=parameter_count(config.model),
        flops=_flops_by_length(config),
        memory=_memory(settled, machines[0], is_fitted=is_fitted),
        stages=_planned_stages(config, bills[0]),
        bills=bills,
        chosen=is_chosen,
        budget_usd=wishes.budget_usd,
        ram_bytes=ram_bytes(config, processes=machines[0].count),
        disk_bytes=disk_bytes(config),
        checkpoints_bytes=kept_checkpoint_bytes(config, is_lengthened=True),
        rollbacks_bytes=rollbacks_bytes(config),
        notes=_notes(settled, machines[0], is_mfu_assumed=is_mfu_assumed),
        claims=claims(config, machines),
    )


def _flops_by_length(config: RunConfig) -> dict[int, tuple[int, int]]:
    longest = config.model.max_position_embeddings
    lengths = {length for length in _LENGTHS if length <= longest} | {
        phase.seq_len for stage in config.stages for phase in stage.training.seq_len_curriculum
    }
    return {
        length: (
            flops_per_token(config.model, length, convention="palm"),
            flops_per_token(config.model, length, convention="causal"),
        )
        for length in sorted(lengths)
    }


def _planned_stages(config: RunConfig, bill: Bill) -> tuple[PlannedStage, ...]:
    budgets = [stage_budget(config, stage) for stage in config.stages]
    return tuple(
        PlannedStage(
            budget=budget,
            last_token_worth=None if budget.epochs is None else marginal_value(budget.epochs),
            flops=stage_flops(config.model, stage),
            cost=cost,
        )
        for budget, stage, cost in zip(budgets, config.stages, bill.stages, strict=True)
    )


def _memory(config: RunConfig, machine: Machine, *, is_fitted: bool) -> Memory:
    """Count for what fits the card, where it is to and the configuration leaves the choice open."""
    is_open = config.optimization.compute.micro_batch_tokens is None
    if not is_fitted or machine.card.memory_bytes is None or not is_open:
        return memory(config, processes=machine.count)
    most = largest_micro_batch(config, machine.card.memory_bytes, processes=machine.count)
    tokens = min(ASSUMED_TOKENS, most or 1)
    return memory(config, micro_batch_tokens=tokens, processes=machine.count)


def _notes(config: RunConfig, machine: Machine, *, is_mfu_assumed: bool) -> tuple[str, ...]:
    """Return what a person should know before renting the machine, a sentence each."""
    notes = [_how_it_fits(config, machine), _how_it_shares(config, machine)]
    compute = config.optimization.compute
    if is_mfu_assumed and machine.mfu is not None and compute.compile == "off":
        notes.append(
            "compute.compile is off here. The MFU estimates are for compiled models: without it "
            "expect 1.5 to 1.8 times the hours (an estimate, too)."
        )
    return tuple(note for note in notes if note)


def _how_it_fits(config: RunConfig, machine: Machine) -> str | None:
    card = machine.card
    if card.memory_bytes is None:
        why = (
            "is sold with several sizes of memory" if card.device else "was measured for speed only"
        )
        return f"{card.name} {why}, so nothing is said of its fit."
    size = f"{card.memory_bytes / 1e9:.0f} GB of one {card.name}"
    most = largest_micro_batch(config, card.memory_bytes, processes=machine.count)
    if most is None:
        fits = partial(largest_micro_batch, card_bytes=card.memory_bytes, processes=machine.count)
        ways = _ways_to_fit(config, fits)
        return (
            f"One sequence does not fit the {size}: "
            f"{', or '.join(['another card', *(ways or ['a smaller model'])])}."
        )
    asked = config.optimization.compute.micro_batch_tokens
    if asked is not None:
        planned = memory(config, processes=machine.count)
        if planned.total > CARD_SHARE * card.memory_bytes:
            return (
                f"compute.micro_batch_tokens={asked:,} does not fit the {size}; {most:,} tokens do."
            )
        most = max(most, planned.micro_batch_tokens)  # which may be no power of two
    return f"{most:,} tokens at a time fit the {size}."


def _ways_to_fit(config: RunConfig, fits: Callable[[RunConfig], int | None]) -> list[str]:
    """Return each change with which it fits, or, where none will do, the fewest that do together.

    A run's first start tries a card alone, with the whole of the optimizer's state: compute.zero1
    does not help there.
    """
    changes = list(_lighter(config.optimization))
    for count in range(1, len(changes) + 1):
        ways = [
            " and ".join(told for told, _ in chosen)
            for chosen in combinations(changes, count)
            if fits(reduce(lambda lighter, one: one[1](lighter), chosen, config)) is not None
        ]
        if ways:
            return ways
    return []


def _lighter(optimization: OptimizationConfig) -> Iterator[tuple[str, _Change]]:
    """Yield each change that may leave less held, and what makes it."""

    def setting(section: str, **values: object) -> _Change:
        def changed(config: RunConfig) -> RunConfig:
            part = getattr(config.optimization, section).model_copy(update=values)
            whole = config.optimization.model_copy(update={section: part})
            return config.model_copy(update={"optimization": whole})

        return changed

    if (more := optimization.compute.recompute_more) is not None:
        yield more, setting("compute", gradient_checkpointing=True, checkpointed_share=1.0)
    if optimization.compute.engine == "torch":  # DeepSpeed's does not take it
        yield "optimizer.name=muon", setting("optimizer", name="muon")
    yield "a shorter training.seq_len_curriculum", _shortened


def _shortened(config: RunConfig) -> RunConfig:
    """Return the configuration with the first, shortest sequences of each stage alone."""

    def shortened(stage: StageConfig) -> StageConfig:
        phases = {"seq_len_curriculum": stage.training.seq_len_curriculum[:1]}
        return stage.model_copy(update={"training": stage.training.model_copy(update=phases)})

    return config.model_copy(update={"stages": tuple(map(shortened, config.stages))})


def _how_it_shares(config: RunConfig, machine: Machine) -> str | None:
    """Tell of a step whose rows cannot be shared equally: the run itself would refuse it."""
    context = config.model.max_position_embeddings
    why = unequal_shares(config.stages, machine.count, context=context)
    return None if why is None else f"{why}."
