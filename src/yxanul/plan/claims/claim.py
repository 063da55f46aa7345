"""One promise, its number, the computed one, and whether it holds.

The promises are those of the predecessor's public README of 21 August 2025. `holds` is true, false,
or None where this configuration, or arithmetic at all, cannot say.
"""

from __future__ import annotations

from dataclasses import dataclass

from yxanul.config.schema import RunConfig
from yxanul.plan.cost import Bill

TOLERANCE = 0.02  # a promise with "about" or "~" holds within 2 %


@dataclass(frozen=True, slots=True)
class Claim:
    """One promise: what was said, its number, the computed number, whether it holds, and why.

    `promised` is None where the promise has no number; `promised_high` is the upper end where a
    range was promised. Numbers are in `unit`: parameters, tokens, epochs, tokens/s, hours, usd,
    bytes, x (times), % or "" (no unit).
    """

    claim: str
    promised: float | None
    unit: str
    computed: float | None
    holds: bool | None
    why: str
    promised_high: float | None = None


@dataclass(frozen=True, slots=True)
class Facts:
    """What the promises are judged by: the plan, and its bills on the two promised machines."""

    config: RunConfig
    on_a100: Bill
    on_h100: Bill

    @property
    def tokens(self) -> int:
        """Tokens of all stages together."""
        return self.on_a100.tokens


def stage_of(config: RunConfig, domain: str) -> int | None:
    """Return the position of the first stage that reads a domain; None if no stage does."""
    for position, stage in enumerate(config.stages):
        sources = stage.data.hub_sources or stage.data.embedded_sources
        if any(source.domain == domain for source in sources):
            return position
    return None
