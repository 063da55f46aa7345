"""One update that is not done when what it measures cannot be trusted.

The one idea: a suspicious step is computed a second time before it is believed. The same numbers
again come from the text or the weights, and the step is skipped, so that no weight and no moment
ever sees them; other numbers come from the hardware, and the second ones are taken if they are
good (the idea of Megatron-LM's rerun state machine). Loss and norm are those of all ranks, so all
ranks decide alike.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

from yxanul.data.batches.loader import StepRows
from yxanul.optim.optimizers import LearningRates
from yxanul.train.safety.vigil import Vigil
from yxanul.train.updates.step import Engine, StepResult, measure_step

# Kernels on a card add in an order that changes from call to call; on a CPU nothing does.
_CARD_TOLERANCE = 1e-3

UNUSUAL = ("skipped", "hardware")
"""Columns that a metric row has only where something was not usual."""


@dataclass(frozen=True)
class GuardedStep:
    """What a step measured, and what was not usual about it."""

    result: StepResult
    skipped: str | None
    """Why no weight was moved; None = the update was done."""
    hardware: str | None
    """What a second computation of the same step found; None = it was not needed, or agreed."""

    @property
    def unusual(self) -> dict[str, str]:
        """What was not usual, as columns of the metric row."""
        told = {name: getattr(self, name) for name in UNUSUAL}
        return {name: why for name, why in told.items() if why is not None}


def guarded_step(
    engine: Engine,
    batch: StepRows,
    *,
    rates: LearningRates,
    vigil: Vigil,
    meanwhile: Callable[[], None] | None = None,
) -> GuardedStep:
    """Do one update on this rank's `batch`, or none if the step stays suspicious.

    `meanwhile` is `measure_step`'s.
    """
    result, hardware = measure_step(engine, batch, meanwhile=meanwhile), None
    why = vigil.suspicion(result.loss, result.grad_norm)
    if why is not None:
        engine.optimizers.drop_gradients()
        again = measure_step(engine, batch)
        if not _agree(result, again, exactly=engine.device.type == "cpu"):
            hardware = (
                f"{why}, and computed again the same step gives a loss of {again.loss:.4g} and a "
                f"gradient norm of {again.grad_norm:.4g}: this machine's arithmetic is in doubt"
            )
            result, why = again, vigil.suspicion(again.loss, again.grad_norm)
    if why is None:
        engine.optimizers.step(rates)
    else:
        engine.optimizers.drop_gradients()
    return GuardedStep(result, why, hardware)


def _agree(one: StepResult, other: StepResult, *, exactly: bool) -> bool:
    pairs = ((one.loss, other.loss), (one.grad_norm, other.grad_norm))
    return all(_equal(a, b, tolerance=0.0 if exactly else _CARD_TOLERANCE) for a, b in pairs)


def _equal(one: float, other: float, *, tolerance: float) -> bool:
    if not (math.isfinite(one) and math.isfinite(other)):
        return not (math.isfinite(one) or math.isfinite(other))
    return math.isclose(one, other, rel_tol=tolerance)
