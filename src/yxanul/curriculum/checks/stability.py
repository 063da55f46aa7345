"""G1: did the loss behave?"""

import statistics
from collections.abc import Sequence

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
_END_SHARE, _FEWEST_AT_END = 0.05, 5


def stability_check(
    losses: Sequence[float],
    gate: GateConfig,
    *,
    skipped: frozenset[int] = frozenset(),
    steps: int | None = None,
    begins: int = 0,
) -> Check:
    """G1 from the logged losses of the stage's steps, nats per token in order.

    A spike lies 6 deviations (from the median absolute one) and 10 % above the median of the 32
    logged steps before it. A stage that ends 50 % above the lowest of its first three has diverged.
    begins: place in `losses` of the first of these three, behind a ramp from replay alone.
    skipped: places in `losses` of steps that moved no weight, each of which is logged.
    steps: of the stage, of which the others are logged now and then; None = all were.
    """
    if not losses:
        return Check("G1", None, "not run", "no step of the stage was logged", n=0)
    steps = max(steps or 0, len(losses))
    bad = _bad_steps(losses)
    share = _share(bad, skipped, logged=len(losses), steps=steps)
    told = f"{len(bad)} of {len(losses):,} logged steps have a spike"
    if steps > len(losses):
        told += f", about {share:.2%} of the stage's {steps:,}"
    result: Result = "pass" if share <= gate.bad_steps_margin else "warn"
    if share > gate.bad_steps_limit and is_evidence(losses):
        result = "fail"
    if (rise := _rise(losses, begins=begins)) > _DIVERGED:
        result, told = "fail", f"the loss ended at {rise:.2f} times its beginning; {told}"
    action: Action | None = "rollback" if result == "fail" else None
    margin = gate.bad_steps_margin
    return Check("G1", None, result, told, action, value=share, margin=margin, n=len(losses))


def is_evidence(losses: Sequence[float]) -> bool:
    """Tell whether there are bad steps enough among (steps,) logged losses for a failure."""
    return len(_bad_steps(losses)) >= _FEWEST_BAD_STEPS


def _bad_steps(losses: Sequence[float]) -> frozenset[int]:
    return frozenset(index for index in range(len(losses)) if _is_spike(losses, index))


def _share(bad: frozenset[int], skipped: frozenset[int], *, logged: int, steps: int) -> float:
    """Return the share of bad steps among all: skipped ones are counted, the others sampled."""
    usual = logged - len(skipped)
    counted, seen = len(bad & skipped), float(len(bad - skipped))
    if usual:
        seen *= (steps - len(skipped)) / usual
    return (counted + seen) / steps


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
