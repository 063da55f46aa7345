"""The checks of a gate, each from stored evidence to a result; pure.

G0 integrity: is what was saved what was trained? G1 stability: did the loss behave? G2 progress:
did the stage's own domains improve? G3 retention: were the older domains kept? G2 and G3 judge by
the bounds of `yxanul.curriculum.bootstrap`: to fail, and to pass, needs evidence; what lies between
is a warning.
"""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from yxanul.config.schema import GateConfig
from yxanul.curriculum.bootstrap import FEWEST_DOCUMENTS, Change

Result = Literal["pass", "warn", "fail", "not run", "not applicable"]
Action = Literal["extend", "rollback", "stop"]

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


@dataclass(frozen=True)
class Check:
    """One question of the gate, and its answer."""

    id: str
    """G0 to G3."""
    subject: str | None
    """The domain, where the check has one."""
    result: Result
    why: str
    action: Action | None = None
    """What a failed check asks for."""
    value: float | None = None
    low: float | None = None
    high: float | None = None
    margin: float | None = None
    n: int | None = None
    mde: float | None = None
    """Minimal detectable effect, in the unit of `value`."""


@dataclass(frozen=True)
class Integrity:
    """What the machine found when it read the stage's last checkpoint back."""

    checkpoint: str
    weights_equal: bool
    """Every sha256 is right, and the weights on disk are the ones in memory, bit for bit."""
    loss: float
    """Nats per token of a fixed batch, by the weights in memory."""
    loss_again: float
    """The same, computed again."""
    loss_tolerance: float
    """How far the two may differ, relative: 0 on a CPU."""
    tokens_seen: int
    tokens_in_ledger: int
    """Tokens up to here by the data order: sources of this stage and the stages before."""
    scorer_error: float
    """Relative difference between the scorer and a plain log-softmax on one window."""
    scorer_tolerance: float


def integrity_check(found: Integrity | None) -> Check:
    """G0: everything must hold, else the run stops."""
    if found is None:
        return Check("G0", None, "not run", "nothing was read back")
    gap = abs(found.loss_again - found.loss)
    wrong = [
        text
        for holds, text in (
            (found.weights_equal, f"{found.checkpoint} does not hold the weights in memory"),
            (
                gap <= found.loss_tolerance * abs(found.loss),
                f"the loss of a fixed batch is {found.loss!r} and then {found.loss_again!r}",
            ),
            (
                found.tokens_seen == found.tokens_in_ledger,
                f"{found.tokens_seen:,} tokens were counted, {found.tokens_in_ledger:,} planned",
            ),
            (
                found.scorer_error <= found.scorer_tolerance,
                f"the scorer is {found.scorer_error:.2%} off a plain log-softmax",
            ),
        )
        if not holds
    ]
    if wrong:
        return Check("G0", None, "fail", "; ".join(wrong), "stop")
    told = f"{found.checkpoint} reads back, its loss repeats, {found.tokens_seen:,} tokens add up"
    return Check("G0", None, "pass", told)


def stability_check(losses: Sequence[float], gate: GateConfig) -> Check:
    """G1 from the logged losses of the stage's steps, nats per token in order.

    A spike lies 6 deviations (from the median absolute one) and 10 % above the median of the 32
    logged steps before it. A stage that ends 50 % above the lowest of its first three has diverged.
    """
    if not losses:
        return Check("G1", None, "not run", "no step of the stage was logged", n=0)
    bad = sum(_is_spike(losses, index) for index in range(len(losses)))
    share = bad / len(losses)
    told = f"{bad} of {len(losses)} logged steps have a spike"
    result: Result = "pass" if share <= gate.bad_steps_margin else "warn"
    if share > gate.bad_steps_limit and bad >= _FEWEST_BAD_STEPS:
        result = "fail"
    if (rise := _rise(losses)) > _DIVERGED:
        result, told = "fail", f"the loss ended at {rise:.2f} times its beginning; {told}"
    action: Action | None = "rollback" if result == "fail" else None
    margin = gate.bad_steps_margin
    return Check("G1", None, result, told, action, value=share, margin=margin, n=len(losses))


def progress_check(
    domain: str, change: Change, *, gate: GateConfig, forecast_gain: float | None
) -> Check:
    """G2 for one own domain, whose bits per byte must fall by gate.min_improvement.

    forecast_gain: share by which they would still fall with 10 % more tokens; None = not known.
    """
    floor = -gate.min_improvement
    figures = _figures(change, floor)
    told = f"{domain} {change.value:+.2%}"
    if change.documents < FEWEST_DOCUMENTS:
        return Check("G2", domain, "not applicable", _too_few(domain, change), **figures)
    if change.high < floor:
        return Check("G2", domain, "pass", f"{told}, wanted {floor:+.2%}", **figures)
    if change.value < floor:
        why = f"{told}, wanted {floor:+.2%}, but the interval reaches {change.high:+.2%}"
        return Check("G2", domain, "warn", why, **figures)
    why = f"{told} did not fall by {gate.min_improvement:.2%}"
    is_falling = forecast_gain is not None and forecast_gain >= gate.extension.min_gain
    # What got worse than at the stage's entry is no stage that needs a little more.
    if forecast_gain is not None and is_falling and change.value <= 0:
        why += f", but 10 % more tokens promise {-forecast_gain:+.2%}"
        return Check("G2", domain, "fail", why, "extend", **figures)
    return Check("G2", domain, "fail", why, "stop", **figures)


def retention_check(domain: str, change: Change, *, gate: GateConfig) -> Check:
    """G3 for one older domain, whose bits per byte must not rise."""
    told = f"{domain} {change.value:+.2%}"
    margin, limit = gate.retention_margin, gate.retention_limit
    figures = _figures(change, margin)
    if change.documents < FEWEST_DOCUMENTS:
        return Check("G3", domain, "not applicable", _too_few(domain, change), **figures)
    if change.high <= margin:
        return Check("G3", domain, "pass", f"{told}, at most {margin:+.2%}", **figures)
    if change.low > limit:
        why = f"{told}, forgotten: over {limit:+.2%} with 95 % confidence"
        return Check("G3", domain, "fail", why, "rollback", **figures)
    why = f"{told}, not surely within {margin:+.2%} and not surely over {limit:+.2%}"
    return Check("G3", domain, "warn", why, **figures)


def forecast_gain(course: Sequence[tuple[int, float]]) -> float | None:
    """Return the share by which bits per byte would fall with 10 % more tokens.

    course: (tokens of the stage, bits per byte) in order; the line through the last two points,
    in log tokens, is followed. None with fewer than two points after the stage's beginning.
    """
    points = [(tokens, bpb) for tokens, bpb in course if tokens > 0]
    if len(points) < 2:
        return None
    (early, old), (late, new) = points[-2:]
    slope = (old - new) / math.log(late / early)
    return slope * math.log(1.1) / new


def _too_few(domain: str, change: Change) -> str:
    return (
        f"{domain} {change.value:+.2%} over {change.documents} documents, fewer than "
        f"{FEWEST_DOCUMENTS}, prove nothing"
    )


def _figures(change: Change, margin: float) -> dict[str, Any]:
    """Return the columns of a check that compares `change` with `margin`."""
    return {
        "value": change.value,
        "low": change.low,
        "high": change.high,
        "margin": margin,
        "n": change.documents,
        "mde": change.minimal_detectable,
    }


def _is_spike(losses: Sequence[float], index: int) -> bool:
    window = losses[max(0, index - _WINDOW) : index]
    if len(window) < _SHORTEST_WINDOW:
        return False
    median = statistics.median(window)
    sigma = _MAD_TO_SIGMA * statistics.median(abs(value - median) for value in window)
    return losses[index] > median + max(_SPIKE_SIGMAS * sigma, _SPIKE_SHARE * median)


def _rise(losses: Sequence[float]) -> float:
    """Return the end's median over the least of the beginning."""
    at_end = max(_FEWEST_AT_END, round(_END_SHARE * len(losses)))
    return statistics.median(losses[-at_end:]) / min(losses[:FIRST_STEPS])
