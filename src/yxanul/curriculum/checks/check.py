"""One question of a gate and its answer, the form in which all checks speak."""

from dataclasses import dataclass
from typing import Any, Literal

from yxanul.curriculum.statistics.bootstrap import FEWEST_DOCUMENTS, Change

Result = Literal["pass", "warn", "fail", "not run", "not applicable"]
Action = Literal["extend", "rollback", "stop"]


@dataclass(frozen=True)
class Check:
    """One question of the gate, and its answer."""

    id: str
    """G0 to G8."""
    subject: str | None
    """The domain, or the task and its measure, where the check has one."""
    result: Result
    why: str
    action: Action | None = None
    """What it asks for."""
    value: float | None = None
    low: float | None = None
    high: float | None = None
    margin: float | None = None
    n: int | None = None
    mde: float | None = None
    """Minimal detectable effect, in the unit of `value`."""
    noise: float | None = None
    """Standard deviation of training that widened the bounds, in the unit of `value`."""


def figures(change: Change, margin: float, *, noise: float = 0.0) -> dict[str, Any]:
    """Return the columns of a check that compares `change` with `margin`."""
    return {
        "value": change.value,
        "low": change.low,
        "high": change.high,
        "margin": margin,
        "n": change.documents,
        "mde": change.minimal_detectable,
        "noise": noise or None,
    }


def too_few(subject: str, change: Change) -> str:
    """Say that a change over so few documents is no evidence."""
    return (
        f"{subject} {change.value:+.2%} over {change.documents} documents, fewer than "
        f"{FEWEST_DOCUMENTS}, prove nothing"
    )
