"""G1: did the loss behave?"""

import math
import statistics
from collections.abc import Collection, Sequence

from yxanul.config.schema import GateConfig
from yxanul.curriculum.checks.check import Action, Check, Result

_WINDOW = 32  # logged steps that a step is compared with: a longer one would hold a steep fall
_SHORTEST_WINDOW = 16
_SPIKE_SIGMAS = 6.0
_SPIKE_SHARE = 0.1  # and at least this far above the median: a flat curve has a tiny deviation
_MAD_TO_SIGMA = 1.4826
_FEWEST_BAD_STEPS = 3  # one unlucky step of a short stage is no evidence
_DIVERGED = 1.5  # single batches of a few thousand tokens differ by a sixth
FIRST_STEPS = 3
"""Steps whose losses tell where a stage began: a rate that is far too high breaks it in one."""
LATE_STEPS = 1000
"""Steps at a stage's end of which none may be without a finite loss and gradient."""
_END_SHARE, _FEWEST_AT_END = 0.05, 5


def stability_check(
    losses: Sequence[float],
    gate: GateConfig,
    *,
    skipped: frozenset[int] = frozenset(),
    late: int = 0,
    steps: int | None = None,
    begins: int = 0,
) -> Check:
    """G1 from the logged losses of the stage's steps, nats per token in order.

    Bad is a step that moved no weight, one without a finite loss, and a spike: that lies 6
    deviations (from the median absolute one) and 10 % above the median of the 32 logged steps
    before it. A stage that ends 50 % above the lowest of its first three has diverged.
    begins: place in `losses` of the first of these three, behind a ramp from replay alone.
    late: steps whose loss or gradient was not finite, of the stage's last `LATE_STEPS`.
    skipped: places in `losses` of steps that moved no weight, each of which is logged.
    steps: of the stage, of which the others are logged now and then; None = all were.
    """
    if not losses:
        return Check("G1", None, "not run", "no step of the stage was logged", n=0)
    steps = max(steps or 0, len(losses))
    bad = bad_steps(losses, skipped)
    unmoved = _unmoved(losses, skipped)
    share = _share(bad, unmoved, logged=len(losses), steps=steps)
    told = f"{len(bad)} of {len(losses):,} logged steps are bad"
    if unmoved:
        told += f" ({len(unmoved)} of them moved no weight)"
    if steps > len(losses):
        told += f", about {share:.2%} of the stage's {steps:,}"
    result: Result = "pass" if share <= gate.bad_steps_margin else "warn"
    if late:
        last = min(LATE_STEPS, steps)
        result, told = "warn", f"{told}; {late} of the last {last:,} steps not finite"
    if share > gate.bad_steps_limit and is_evidence(bad):
        result = "fail"
    if (rise := _rise(losses, begins=begins)) > _DIVERGED:
        result, told = "fail", f"the loss ended at {rise:.2f} times its beginning; {told}"
    action: Action | None = "rollback" if result == "fail" else None
    margin = gate.bad_steps_margin
    return Check("G1", None, result, told, action, value=share, margin=margin, n=len(losses))


def is_evidence(bad: Collection[int]) -> bool:
    """Tell whether there are bad steps enough for a failure."""
    return len(bad) >= _FEWEST_BAD_STEPS


def bad_steps(losses: Sequence[float], skipped: frozenset[int]) -> frozenset[int]:
    """Return the places of the bad steps among (steps,) logged losses."""
    spikes = (index for index in range(len(losses)) if _is_spike(losses, index))
    return _unmoved(losses, skipped).union(spikes)


def _unmoved(losses: Sequence[float], skipped: frozenset[int]) -> frozenset[int]:
    """Return the places of steps that moved no weight; a loss that is not finite never does."""
    return skipped.union(i for i, loss in enumerate(losses) if not math.isfinite(loss))


def _share(bad: frozenset[int], unmoved: frozenset[int], *, logged: int, steps: int) -> float:
    """Return the share of bad steps among all: unmoved ones are counted, the others sampled."""
    usual = logged - len(unmoved)
    seen = float(len(bad - unmoved))
    if usual:
        seen *= (steps - len(unmoved)) / usual
    return (len(unmoved) + seen) / steps


def _is_spike(losses: Sequence[float], index: int) -> bool:
    window = losses[max(0, index - _WINDOW) : index]
    if len(window) < _SHORTEST_WINDOW:
        return False
    median = statistics.median(window)
    sigma = _MAD_TO_SIGMA * statistics.median(abs(value - median) for value in window)
    return losses[index] > median + max(_SPIKE_SIGMAS * sigma, _SPIKE_SHARE * median)


def _rise(losses: Sequence[float], *, begins: int) -> float:
    """Return the end's median over the least of the beginning."""
    at_end = max(_FEWEST_AT_END, round(_END_SHARE * len(losses)))
    return statistics.median(losses[-at_end:]) / min(losses[begins : begins + FIRST_STEPS])
