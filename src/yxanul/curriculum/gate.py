"""The gate at a stage's end: scores in, verdict out; it touches no trainer and no file.

In this first form it asks one question: did every domain of the stage's own sources improve?
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

Verdict = Literal["pass", "stop", "not run"]


@dataclass(frozen=True)
class GateDecision:
    """A verdict and the sentence that explains it."""

    verdict: Verdict
    why: str


def progress_verdict(
    before: Mapping[str, float] | None,
    after: Mapping[str, float],
    *,
    own_domains: Sequence[str],
    min_improvement: float,
) -> GateDecision:
    """Compare bits per byte before and after a stage, {domain: bpb}, lower is better.

    `pass` when each own domain fell by at least `min_improvement` (a share of its value before),
    else `stop`; a score that is missing or not finite never passes. Without own domains, or scores
    from the stage's beginning, there is nothing to compare: `not run`.
    """
    if not own_domains:
        return GateDecision("not run", "the stage has no domain of its own to score")
    if before is None:
        return GateDecision("not run", "the stage was begun without a score, with --max_steps")
    pairs = {d: (before.get(d, math.nan), after.get(d, math.nan)) for d in own_domains}
    told = {d: f"{d} {old:.4f} -> {new:.4f}" for d, (old, new) in pairs.items()}
    short = [d for d, (old, new) in pairs.items() if not _fell(old, new, by=min_improvement)]
    if short:
        falls = ", ".join(told[domain] for domain in short)
        return GateDecision("stop", f"bits per byte did not fall by {min_improvement:.1%}: {falls}")
    return GateDecision("pass", f"bits per byte fell: {', '.join(told.values())}")


def _fell(old: float, new: float, *, by: float) -> bool:
    # The last comparison is false for a new score that is NaN.
    return math.isfinite(old) and old > 0 and 1.0 - new / old >= by
