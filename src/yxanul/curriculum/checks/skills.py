"""G4: has the stage cost a skill? Non-inferiority to the weights that it began with."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from yxanul.curriculum.checks.check import Check, figures
from yxanul.curriculum.statistics.bootstrap import MDE_FACTOR, Change, rate_change, relative_change
from yxanul.curriculum.statistics.family import failing
from yxanul.curriculum.statistics.intervals import Z_95, wilson


@dataclass(frozen=True)
class SkillEvidence:
    """One measure of a task, item by item, before and after a stage."""

    task: str
    measure: str
    kind: Literal["rate", "bpb"]
    """A rate is 0 to 1 per item, larger is better; bpb is nats per item, lower is better."""
    gates: bool
    """Whether it may roll a stage back; what does not gate is told only."""
    margin: float
    """What may be lost: absolute for a rate, relative for bpb."""
    before: Sequence[float] | None = None
    """None = the stage was begun without it, or it is not scored there."""
    after: Sequence[float] | None = None
    sizes: Sequence[float] | None = None
    """UTF-8 bytes per item, for bpb."""
    clusters: Sequence[str] | None = None
    noise: float | None = None
    """Standard deviation of the change between seeds, in the unit of the margin; None = unknown."""
    dirty: frozenset[int] | None = None
    """Indices of items that stand in the training text; None = nobody looked."""
    failure: str | None = None
    """Why it could not be scored."""
    kin: tuple[str, ...] = ()
    """Sources of the training text that are made from the same problems or their kin."""

    @property
    def subject(self) -> str:
        """How a check calls it."""
        return f"{self.task} {self.measure}"


def skill_checks(skills: Sequence[SkillEvidence]) -> list[Check]:
    """G4 for every measure: gating ones as a family, the others as a figure with its interval."""
    judged = [(skill, change) for skill in skills if (change := _gain(skill)) is not None]
    members = [lambda at, c=change, m=skill.margin: c.high_at(at) < -m for skill, change in judged]
    failed = failing(members)
    lost = {judged[index][0].subject for index in failed}
    changes = {skill.subject: change for skill, change in judged}
    return [
        _without_noise(
            _check(skill, changes.get(skill.subject), is_lost=skill.subject in lost), skill
        )
        for skill in skills
    ]


def _without_noise(check: Check, skill: SkillEvidence) -> Check:
    """Let a check whose bounds hold the items' noise alone say so."""
    has_bounds = skill.gates and check.low is not None and math.isfinite(check.low)
    if not has_bounds or skill.noise is not None:
        return check
    return replace(check, why=f"{check.why} (noise of training not known)")


def _gain(skill: SkillEvidence) -> Change | None:
    """Return the change of a gating measure, signed so that larger is better; None without it."""
    if not skill.gates or skill.failure or skill.before is None or skill.after is None:
        return None
    noise = skill.noise or 0.0
    try:
        if skill.kind == "rate":
            return rate_change(skill.before, skill.after, noise=noise, clusters=skill.clusters)
        worse = relative_change(skill.before, skill.after, noise=noise, clusters=skill.clusters)
    except ValueError:
        return None  # _check says so
    return replace(
        worse, value=-worse.value, draws=None if worse.draws is None else -worse.draws[::-1]
    )


def _check(skill: SkillEvidence, change: Change | None, *, is_lost: bool) -> Check:
    subject = skill.subject
    if not skill.gates:
        return _reported(skill)
    if skill.failure is not None:
        return Check("G4", subject, "not run", skill.failure, "stop")
    if skill.before is None:
        why = f"the stage was begun without a score of {skill.task}, with --max_steps"
        return Check("G4", subject, "not run", why)
    if change is None:
        why = f"{subject}: the scores before and after the stage cannot be compared"
        return Check("G4", subject, "not run", why, "stop")
    columns = figures(change, -skill.margin, noise=skill.noise or 0.0)
    told = f"{subject} {_told(skill, change.value)}"
    if not change.is_known:
        why = f"{told} over {change.documents} items or clusters, which prove nothing"
        return Check("G4", subject, "not applicable", why, **columns)
    allowed = _told(skill, -skill.margin)
    told += f", at worst {_told(skill, change.low)}"
    if change.low >= -skill.margin:
        return Check("G4", subject, "pass", f"{told}, where {allowed} is allowed", **columns)
    if is_lost:
        told += f", at best {_told(skill, change.high)}"
        why = f"{told}: lost, below the {allowed} that is allowed with 95 % confidence"
        return Check("G4", subject, "fail", why, "rollback", **columns)
    why = f"{told}: not surely above the {allowed} that is allowed"
    return Check("G4", subject, "warn", why, **columns)


def _reported(skill: SkillEvidence) -> Check:
    """Tell a measure that does not gate, with the interval of a single rate.

    Where it could not be taken (no sandbox here), the verdict is what it would have been.
    """
    if skill.failure is not None:
        why = f"{skill.subject} was not run: {skill.failure}"
        return Check("G4", skill.subject, "not applicable", why)
    if not skill.after:
        return Check("G4", skill.subject, "not applicable", f"{skill.subject} was not taken")
    n = len(skill.after)
    rate = sum(skill.after) / n
    low, high = wilson(sum(skill.after), n)
    smallest = MDE_FACTOR * (high - low) / (2 * Z_95)
    why = f"{skill.subject} {rate:.1%} of {n:,}: reported, no gate (it could tell {smallest:.1%})"
    if skill.kin:
        why += f"; trained on text made from the same problems or their kin: {', '.join(skill.kin)}"
    return Check(
        "G4",
        skill.subject,
        "not applicable",
        why,
        value=rate,
        low=low,
        high=high,
        n=n,
        mde=smallest,
    )


def _told(skill: SkillEvidence, value: float) -> str:
    return f"{100 * value:+.2f} points" if skill.kind == "rate" else f"{value:+.2%}"
