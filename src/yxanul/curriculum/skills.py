"""The skills of a stage as its gate sees them, from the scores in the run folder."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from yxanul.config.evaluation import KIN, TASKS, SkillConfig
from yxanul.curriculum.checks.skills import SkillEvidence
from yxanul.curriculum.stages import StagePlan
from yxanul.runfolder.contamination import read_contamination
from yxanul.runfolder.layout import RunFolder
from yxanul.runfolder.skill_scores import BYTES, NATS, TaskScore, skills_at


def gather_skills(
    folder: RunFolder,
    plan: StagePlan,
    *,
    branch: Mapping[int, float],
    failures: Mapping[str, str],
    sources: Collection[str],
) -> tuple[SkillEvidence, ...]:
    """Return the measures of the stage's skills: what gates, and what is told only.

    failures {task: why it could not be scored}; sources are those that were read up to the stage.
    """
    before = skills_at(folder.scores, plan.first_step, branch=branch)
    after = skills_at(folder.scores, plan.last_step, branch=branch)
    dirty = _dirty(folder, sources)
    found: list[SkillEvidence] = []
    for skill in plan.config.evaluation.skills:
        task = skill.task
        pair = before.get(task), after.get(task)
        found.append(_gating(skill, pair, failure=failures.get(task), dirty=dirty))
        kin = tuple(source for source in sources if source in KIN.get(task, ()))
        found += [replace(told, kin=kin) for told in _reported(skill, after.get(task))]
    return tuple(found)


def _dirty(folder: RunFolder, sources: Collection[str]) -> dict[str, frozenset[str]] | None:
    """Return {task: ids of items that stand in these sources}; None where nobody looked."""
    if not folder.contamination.exists():
        return None
    found = read_contamination(folder.contamination).dirty_in(sources)
    return {task: frozenset(items) for task, items in found.items()}


def _gating(
    skill: SkillConfig,
    pair: tuple[TaskScore | None, TaskScore | None],
    *,
    failure: str | None,
    dirty: Mapping[str, frozenset[str]] | None,
) -> SkillEvidence:
    facts, (before, after) = TASKS[skill.task], pair
    evidence = SkillEvidence(
        task=skill.task,
        measure=facts.gates_by,
        kind="rate" if facts.is_rate else "bpb",
        gates=True,
        margin=skill.loss_allowed,
        noise=skill.training_noise,
        failure=failure,
    )
    if failure is not None or after is None:
        missing = f"{skill.task} has no score at the stage's end"
        return replace(evidence, failure=failure or missing)
    if before is not None and _differs(before, after):
        why = f"{skill.task} was scored with other items or prompts before the stage than after it"
        return replace(evidence, failure=why)
    measure = facts.gates_by if facts.is_rate else NATS
    known = None if dirty is None else dirty.get(skill.task)
    return replace(
        evidence,
        before=None if before is None else before.measures[measure],
        after=after.measures[measure],
        sizes=None if facts.is_rate else after.measures[BYTES],
        clusters=after.clusters,
        dirty=None if known is None else _indices(after.ids, known),
    )


def _reported(skill: SkillConfig, after: TaskScore | None) -> list[SkillEvidence]:
    """Return the headline of a task that is gated by another measure."""
    facts = TASKS[skill.task]
    if after is None or facts.headline == facts.gates_by or not skill.answers:
        return []
    told = SkillEvidence(
        task=skill.task, measure=facts.headline, kind="rate", gates=False, margin=0.0
    )
    refused = after.not_run.get(facts.headline)
    if refused is not None:
        return [replace(told, failure=refused)]
    return [replace(told, after=after.measures.get(facts.headline, ()))]


def _indices(ids: Sequence[str], known: Collection[str]) -> frozenset[int]:
    return frozenset(index for index, name in enumerate(ids) if name in known)


def _differs(before: TaskScore, after: TaskScore) -> bool:
    names = ("version", "shots", "prompts_sha256", "items_sha256", "ids")
    return any(getattr(before, name) != getattr(after, name) for name in names)
