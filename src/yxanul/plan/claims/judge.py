"""Every promise of the plan, in the order that a reader asks: size, speed and money, the rest."""

from __future__ import annotations

from yxanul.config.schema import RunConfig
from yxanul.plan.claims.claim import Claim, Facts
from yxanul.plan.claims.measured import measured_claims
from yxanul.plan.claims.memory import memory_claims
from yxanul.plan.claims.size import size_claims
from yxanul.plan.claims.speed import speed_claims
from yxanul.plan.claims.unmeasured import unmeasured_claims
from yxanul.plan.cost import bill
from yxanul.plan.hardware import FASTER, PROMISED, Machine, machine


def claims(config: RunConfig, machines: tuple[Machine, ...] = ()) -> tuple[Claim, ...]:
    """Return every promise with its verdict.

    The two promised machines are taken from `machines`, with the user's MFU and rent, if they are
    there; otherwise the table's assumptions hold.
    """
    known = {one.name: one for one in machines}
    on_a100, on_h100 = (
        bill(config.model, config.stages, machine=known.get(name) or machine(config, name))
        for name in (PROMISED, FASTER)
    )
    facts = Facts(config, on_a100=on_a100, on_h100=on_h100)
    return (
        *size_claims(facts),
        *speed_claims(facts),
        *memory_claims(facts),
        *measured_claims(config.model),
        *unmeasured_claims(),
    )
