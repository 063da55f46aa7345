"""G7: do items that stand in the training text make a score look better than it is?"""

import math
from collections.abc import Sequence

import numpy as np

from yxanul.curriculum.checks.check import Check
from yxanul.curriculum.checks.skills import SkillEvidence

_FEWEST_ITEMS = 5
_SIGMAS = 2.0


def contamination_checks(skills: Sequence[SkillEvidence]) -> list[Check]:
    """G7 for every gating measure: the score without items known from training, against all.

    Without a report of such items the run stops: nobody knows what its scores mean.
    """
    gating = [skill for skill in skills if skill.gates and skill.after and not skill.failure]
    if not gating:
        return [Check("G7", None, "not applicable", "no skill is scored")]
    return [_check(skill) for skill in gating]


def _check(skill: SkillEvidence) -> Check:
    values = np.asarray(skill.after, dtype=np.float64)
    n = len(values)
    if skill.dirty is None:
        why = f"nobody looked for the items of {skill.task} in the training text"
        return Check("G7", skill.subject, "not run", why, "stop", n=n)
    is_dirty = np.zeros(n, dtype=bool)
    is_dirty[sorted(skill.dirty)] = True
    dirty = int(is_dirty.sum())
    told = f"{skill.task}: {dirty:,} of {n:,} items stand in the training text"
    if dirty == 0:
        return Check("G7", skill.subject, "pass", told, n=n)
    if n - dirty < _FEWEST_ITEMS:
        return Check("G7", skill.subject, "warn", f"{told}: nothing clean is left", n=n)
    if dirty < _FEWEST_ITEMS:
        return Check("G7", skill.subject, "pass", f"{told}, too few to matter", n=n)
    sizes = np.ones(n) if skill.sizes is None else np.asarray(skill.sizes, dtype=np.float64)
    seen, seen_error = _ratio(values[is_dirty], sizes[is_dirty])
    clean, clean_error = _ratio(values[~is_dirty], sizes[~is_dirty])
    share = float(sizes[is_dirty].sum() / sizes.sum())
    gap, error = share * (seen - clean), share * math.hypot(seen_error, clean_error)
    is_seen = abs(gap) >= _SIGMAS * error
    if is_seen:
        told += f" and shift the score: the clean score, {clean:.4g}, is the headline"
    return Check(
        "G7",
        skill.subject,
        "warn" if is_seen else "pass",
        told,
        value=gap,
        low=gap - _SIGMAS * error,
        high=gap + _SIGMAS * error,
        n=n,
    )


def _ratio(values: np.ndarray, sizes: np.ndarray) -> tuple[float, float]:
    """Return sum of values over sum of sizes, and its standard error (linearised)."""
    ratio = float(values.sum() / sizes.sum())
    left = values - ratio * sizes
    n = len(values)
    spread = math.sqrt(float((left**2).sum()) * n / max(1, n - 1))
    return ratio, spread / float(sizes.sum())
