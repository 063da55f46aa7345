"""What the gates of a run will not be able to tell, said before the first step is paid for."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import NormalDist

from yxanul.config.evaluation import TASKS, SkillConfig
from yxanul.curriculum.stages import noise_steps
from yxanul.curriculum.statistics.bootstrap import CONFIDENCE, FEWEST_DOCUMENTS, rate_resolution
from yxanul.curriculum.statistics.noise import FEWEST_SCORES
from yxanul.train.running.session import Session


def unprovable(session: Session) -> Iterator[str]:
    """Yield a sentence for every domain and skill of which no gate will be able to judge anything.

    And one for the stages, and for the skills, whose bounds will hold nothing of the noise of
    training.
    """
    for domain, documents in session.scorer.documents.items():
        if documents < FEWEST_DOCUMENTS:
            yield (
                f"{domain} has {documents} held-out documents, fewer than {FEWEST_DOCUMENTS}, "
                "which prove nothing: no gate will judge whether it was learned or kept; prepare "
                "more text, or prepare it anew with a larger data.validation_fraction"
            )
    short = [
        plan.name
        for plan in session.active
        if plan.config.gate.training_noise is None and len(noise_steps(plan)) < FEWEST_SCORES
    ]
    if short:
        yield (
            f"{', '.join(short)}: fewer than {FEWEST_SCORES} scores before the end, so that the "
            "noise of training is not known and the gate's bounds hold the documents' alone; lower "
            "evaluation.every_fraction, or measure gate.training_noise"
        )
    yield from _unprovable_skills(session)


def _unprovable_skills(session: Session) -> Iterator[str]:
    judged = [
        (plan.name, skill, count)
        for plan in session.active
        for skill in plan.config.evaluation.skills
        if (count := session.skills.independent(skill)) is not None
    ]
    # The items of a task are the same in all stages; margin and noise are of each stage.
    for task, count in {skill.task: count for _, skill, count in judged}.items():
        if count < FEWEST_DOCUMENTS:
            yield (
                f"{task} has {count} items or clusters of them, fewer than {FEWEST_DOCUMENTS}, "
                "which prove nothing: no gate will judge whether it was kept; score more of them "
                "(evaluation.skills, items)"
            )
    for stage, skill, count in judged:
        if count >= FEWEST_DOCUMENTS and (least := _least_known(skill, count)) is not None:
            yield (
                f"{stage}: {skill.task} may lose {skill.loss_allowed:.2%} of its items, and "
                f"{count:,} items or clusters of them cannot tell less than {least:.2%}: its gate "
                f"will warn even where no answer changes; {_mend(skill)}"
            )
    unknown = [skill.task for _, skill, _ in judged if skill.training_noise is None]
    if unknown:
        yield (
            f"{', '.join(dict.fromkeys(unknown))}: the noise of training is not known, so that the "
            "bounds of these skills hold the items' alone; measure training_noise of "
            "evaluation.skills"
        )


def _least_known(skill: SkillConfig, count: int) -> float | None:
    """Return the smallest loss that so many items can tell, where it is more than may be lost.

    Of bits per byte, whose bounds the answers themselves make, nothing is known before.
    """
    if not TASKS[skill.task].is_rate:
        return None
    least = rate_resolution(count, noise=skill.training_noise or 0.0)
    return least if least > skill.loss_allowed else None


def _mend(skill: SkillConfig) -> str:
    """Return what lets such a skill be judged: no number of items outdoes the noise of training."""
    least = NormalDist().inv_cdf(CONFIDENCE) * (skill.training_noise or 0.0)
    if least > skill.loss_allowed:
        return f"training_noise alone takes {least:.2%}: raise margin (evaluation.skills)"
    return "score more of them (evaluation.skills, items), or raise margin"
