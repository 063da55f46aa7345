"""G7: do items that stand in the training text make a score look better than it is?"""

import math
from collections.abc import Sequence

import numpy as np

from yxanul.curriculum.bootstrap import MDE_FACTOR
from yxanul.curriculum.checks.check import Check
from yxanul.curriculum.checks.skills import SkillEvidence

_FEWEST_ITEMS = 5
_SIGMAS = 2.0
_ROUNDING = 1e-12  # of a gap between equal scores


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
    clean = float(values[~is_dirty].sum() / sizes[~is_dirty].sum())
    gap = float(values.sum() / sizes.sum()) - clean
    error = _error(values, sizes, is_dirty=is_dirty)
    is_seen = abs(gap) >= max(_SIGMAS * error, _ROUNDING)
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
        mde=MDE_FACTOR * error,
    )


def _error(values: np.ndarray, sizes: np.ndarray, *, is_dirty: np.ndarray) -> float:
    """Return the standard error of the gap if it made no difference which items are dirty.

    Then they are a draw without replacement from all items; linearised for a ratio of sums.
    """
    n, dirty = len(values), int(is_dirty.sum())
    left = values - values.sum() / sizes.sum() * sizes
    spread = math.sqrt(float((left**2).sum()) / (n - 1) * dirty * (n - dirty) / n)
    return spread / float(sizes[~is_dirty].sum())
