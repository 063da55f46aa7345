"""Hours and dollars of work on a machine, as a likely value between a low and a high one.

hours = operations / (cards x peak x MFU) / 3,600, with operations in the PaLM convention, in which
the MFU is given. Dollars = hours x cards x rent; the low end is the best MFU at the lowest rent.
Evaluation, checkpoints and the rest of `OVERHEAD` come on top and are never mixed in.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from yxanul.config.schema import ModelConfig, StageConfig
from yxanul.plan.flops import extension_flops, rollback_flops, stage_flops
from yxanul.plan.hardware import Machine

OVERHEAD = "evaluation, checkpoints, restarts and the time to compile"
OVERHEAD_LOW, OVERHEAD_HIGH = 0.05, 0.10  # an estimate, not measured


@dataclass(frozen=True, slots=True)
class Range:
    """A likely value and its bounds."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Cost:
    """Hours on the whole machine and dollars for it; None where a figure they need is unknown."""

    hours: Range | None
    usd: Range | None


@dataclass(frozen=True, slots=True)
class Bill:
    """What a plan costs on one machine, stage by stage and in all."""

    machine: Machine
    stages: tuple[Cost, ...]
    total: Cost
    extensions: Cost
    """What gates may add: every stage is lengthened as often as its gate allows."""
    rollbacks: Cost
    """What they may add on top: every stage, so lengthened, is begun anew as often as allowed."""
    tokens: int
    flops: int

    @property
    def tokens_per_s(self) -> float | None:
        """Tokens per second over the whole plan, at the assumed MFU."""
        return self.tokens / (3600 * self.total.hours.value) if self.total.hours else None

    @property
    def overhead(self) -> Cost:
        """What comes on top of the likely total, `OVERHEAD_LOW` to `OVERHEAD_HIGH` of it."""
        return Cost(_overhead(self.total.hours), _overhead(self.total.usd))


def cost(flops: float, machine: Machine) -> Cost:
    """Return hours and dollars of `flops` operations (PaLM convention) on a machine."""
    mfu, rent = machine.mfu, machine.usd_per_gpu_hour
    if mfu is None:
        return Cost(None, None)
    hours = Range(
        *(flops / (machine.peak_flops * share * 3600) for share in (mfu.value, mfu.high, mfu.low))
    )
    if rent is None:
        return Cost(hours, None)
    usd = Range(
        machine.count * hours.value * rent.value,
        machine.count * hours.low * rent.low,
        machine.count * hours.high * rent.high,
    )
    return Cost(hours, usd)


def bill(model: ModelConfig, stages: tuple[StageConfig, ...], *, machine: Machine) -> Bill:
    """Return what all stages cost on a machine; every phase counts at its own sequence length."""
    work = [stage_flops(model, stage) for stage in stages]
    return Bill(
        machine=machine,
        stages=tuple(cost(flops, machine) for flops in work),
        total=cost(sum(work), machine),
        extensions=cost(sum(extension_flops(model, stage) for stage in stages), machine),
        rollbacks=cost(sum(rollback_flops(model, stage) for stage in stages), machine),
        tokens=sum(stage.training.total_tokens for stage in stages),
        flops=sum(work),
    )


def affordable_tokens(bill: Bill, usd: float) -> Range | None:
    """Return the tokens of such a plan that `usd` dollars buy, overhead left out; None: unknown.

    At no rent there is no bound, and so no figure.
    """
    price = bill.total.usd
    if price is None or price.low == 0:
        return None
    return Range(*(bill.tokens * usd / paid for paid in (price.value, price.high, price.low)))


def affordable_parameters(bill: Bill, parameters: int, *, usd: float) -> Range | None:
    """Return how large a model `usd` dollars train, at the plan's tokens per parameter; None: `?`.

    Tokens grow with the parameters, and operations per token do (attention apart), so the price
    grows with their square.
    """
    price = bill.total.usd
    if price is None or price.low == 0:
        return None
    return Range(
        *(parameters * math.sqrt(usd / paid) for paid in (price.value, price.high, price.low))
    )


def mfu_of_rate(bill: Bill, tokens_per_s: float) -> float:
    """Return the MFU that a rate of tokens over the whole plan would mean on the bill's machine."""
    return tokens_per_s * bill.flops / bill.tokens / bill.machine.peak_flops


def _overhead(total: Range | None) -> Range | None:
    if total is None:
        return None
    low, high = OVERHEAD_LOW * total.value, OVERHEAD_HIGH * total.value
    return Range((low + high) / 2, low, high)
