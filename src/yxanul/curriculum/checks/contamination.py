"""G7: do items that stand in the training text make a score look better than it is?"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from yxanul.curriculum.checks.check import Check
from yxanul.curriculum.checks.skills import SkillEvidence
from yxanul.curriculum.statistics.bootstrap import FEWEST_DOCUMENTS, MDE_FACTOR, Floats, by_cluster

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
    dirty = len(skill.dirty)
    told = f"{skill.task}: {dirty:,} of {n:,} items stand in the training text"
    if dirty == 0:
        return Check("G7", skill.subject, "pass", told, n=n)
    seen, clean = _parts(skill, values)
    if clean.count < FEWEST_DOCUMENTS:
        return Check("G7", skill.subject, "warn", f"{told}: too little is clean to compare", n=n)
    if seen.count < FEWEST_DOCUMENTS:
        return Check("G7", skill.subject, "pass", f"{told}, too few to matter", n=n)
    gap, error = _shift(seen, clean)
    is_seen = abs(gap) > max(_SIGMAS * error, _ROUNDING)
    if is_seen:
        told += f" and shift the score: without them it is {_written(skill, clean)}"
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


def _written(skill: SkillEvidence, part: "_Part") -> str:
    """Return the score of a part as tables have it."""
    if skill.kind == "rate":
        return f"{part.ratio:.1%}"
    return f"{part.ratio / math.log(2):.4f} bits per byte"


@dataclass(frozen=True)
class _Part:
    """The known items or the clean ones: sums of each cluster, (clusters,)."""

    values: Floats
    sizes: Floats

    @property
    def count(self) -> int:
        return len(self.values)

    @property
    def ratio(self) -> float:
        return float(self.values.sum() / self.sizes.sum())


def _parts(skill: SkillEvidence, values: Floats) -> tuple[_Part, _Part]:
    """Return the items that are known from training, and the clean ones."""
    sizes = np.ones_like(values) if skill.sizes is None else np.asarray(skill.sizes, np.float64)
    is_dirty = np.zeros(len(values), dtype=bool)
    is_dirty[sorted(skill.dirty or ())] = True

    def part(chosen: npt.NDArray[np.bool_]) -> _Part:
        names = None
        if skill.clusters is not None:
            names = [name for name, held in zip(skill.clusters, chosen, strict=True) if held]
        return _Part(by_cluster(values[chosen], names), by_cluster(sizes[chosen], names))

    return part(is_dirty), part(~is_dirty)


def _shift(seen: _Part, clean: _Part) -> tuple[float, float]:
    """Return the full score less the clean one, and its standard error if nothing shifts it.

    Clusters then deviate alike from the full score, known or not (a score test): a handful that
    are all wrong have no deviation of their own, and yet would be no wonder.
    """
    values = np.concatenate((seen.values, clean.values))
    sizes = np.concatenate((seen.sizes, clean.sizes))
    left = values - float(values.sum() / sizes.sum()) * sizes
    spread = math.sqrt(float((left**2).sum()) / (len(left) - 1))
    errors = [spread * math.sqrt(part.count) / float(part.sizes.sum()) for part in (seen, clean)]
    share = float(seen.sizes.sum() / sizes.sum())
    return share * (seen.ratio - clean.ratio), share * math.hypot(*errors)
