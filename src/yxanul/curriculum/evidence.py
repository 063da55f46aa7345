"""From a run folder to what its gate judges by.

The one idea: whatever a gate judges by is stored, so that the loop, when a stage ends, and
`yxanul gate`, at any later time, gather the same evidence. What no file holds is an `Asked`, which
is written into the verdict's row.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from yxanul.curriculum.checks.budget import Spending
from yxanul.curriculum.checks.integrity import Integrity
from yxanul.curriculum.checks.plateau import Course
from yxanul.curriculum.checks.stability import LATE_STEPS
from yxanul.curriculum.gate import Evidence
from yxanul.curriculum.skills import gather_skills
from yxanul.curriculum.stages import StagePlan, noise_steps, plateau_steps
from yxanul.curriculum.statistics.noise import comparison_noise
from yxanul.runfolder.layout import RunFolder
from yxanul.runfolder.lineage import branch_of, is_on
from yxanul.runfolder.rows import Row, read_placed_rows
from yxanul.runfolder.scores import DomainScore, domain_course, scores_at
from yxanul.runfolder.verdicts import all_verdicts, read_checks


@dataclass(frozen=True)
class Asked:
    """What only the running session knew when the gate was asked; plain values."""

    attempt: int
    own_domains: tuple[str, ...]
    older_domains: tuple[str, ...]
    sources: tuple[str, ...] = ()
    """All that were read up to the stage, replayed or not."""
    tokens_seen: int | None = None
    integrity: Integrity | None = None
    spending: Spending | None = None
    failures: Mapping[str, str] = field(default_factory=dict)
    """{domain or task: why its score could not be taken}."""
    scored: Mapping[str, Sequence[int]] = field(default_factory=dict)
    """{domain: steps of the stage with a score}; rows of earlier versions do not say it."""

    def as_row(self) -> dict[str, Any]:
        """Return plain values for the row of the decision."""
        values = asdict(self)
        del values["attempt"]  # the row has it already
        return values

    @classmethod
    def from_row(cls, row: Row) -> "Asked":
        """Read what a decision's row holds; a wrong one is a KeyError, TypeError or ValueError."""
        stored = row["evidence"]
        integrity, spending = stored["integrity"], stored.get("spending")
        return cls(
            attempt=row["attempt"],
            own_domains=tuple(stored["own_domains"]),
            older_domains=tuple(stored["older_domains"]),
            sources=tuple(stored.get("sources", ())),
            tokens_seen=stored.get("tokens_seen"),
            integrity=None if integrity is None else _integrity(integrity),
            spending=None if spending is None else Spending(**spending),
            failures=dict(stored.get("failures", {})),
            scored={d: tuple(steps) for d, steps in dict(stored.get("scored", {})).items()},
        )


def _integrity(stored: Row) -> Integrity:
    """Read what was measured; a figure that was not finite stands as null in JSON."""
    found: dict[str, Any] = {k: math.nan if v is None else v for k, v in dict(stored).items()}
    return Integrity(**found)


def gather_evidence(folder: RunFolder, plan: StagePlan, *, asked: Asked) -> Evidence:
    """Read what was stored of a stage as `asked.attempt` trained it."""
    branch = branch_of(folder.lineage, asked.attempt)
    before = scores_at(folder.scores, plan.first_step, branch=branch)
    after = scores_at(folder.scores, plan.last_step, branch=branch)
    courses = {
        domain: _course(scores, plan)
        for domain, scores in _scores(folder, plan, asked=asked).items()
    }
    own = {domain: courses[domain] for domain in asked.own_domains}
    logged = _logged(folder, plan.name, branch=branch)
    first, last = plateau_steps(plan)
    last_early = plan.last_step - LATE_STEPS
    return Evidence(
        own_domains=asked.own_domains,
        older_domains=asked.older_domains,
        before={domain: score.nats for domain, score in before.items()},
        after={domain: score.nats for domain, score in after.items()},
        courses=own,
        losses=[_loss(row) for row in logged],
        integrity=asked.integrity,
        skipped=frozenset(place for place, row in enumerate(logged) if row.get("skipped")),
        late=sum(row["step"] > last_early and not _is_finite(row) for row in logged),
        steps=plan.total_steps,
        begins=_begins(logged, plan),
        warned=_warned_before(folder, plan, branch=branch),
        rollbacks=plan.changes.rollbacks,
        extensions=plan.changes.extensions,
        skills=gather_skills(
            folder, plan, branch=branch, failures=asked.failures, sources=asked.sources
        ),
        tokens_seen=asked.tokens_seen,
        plateau={d: _between(course, plan, steps=(first, last)) for d, course in own.items()},
        plateau_asked=plan.plateau_asked_at is not None,
        spending=asked.spending,
        noise=_noise(courses, plan),
        failures={**_unlike(before, after), **asked.failures},
    )


def scored_steps(folder: RunFolder, plan: StagePlan, *, asked: Asked) -> dict[str, list[int]]:
    """Return {domain: steps, from the stage's entry to its end, at which it has a score}."""
    found = _scores(folder, plan, asked=asked)
    return {domain: [score.step for score in scores] for domain, scores in found.items()}


def _scores(folder: RunFolder, plan: StagePlan, *, asked: Asked) -> dict[str, list[DomainScore]]:
    """Return {domain: its scores from the stage's entry to its end}."""
    branch = branch_of(folder.lineage, asked.attempt)
    return {
        domain: [
            score
            for score in domain_course(folder.scores, domain, branch=branch)
            if plan.first_step <= score.step <= plan.last_step
        ]
        for domain in (*asked.own_domains, *asked.older_domains)
    }


def _unlike(before: Mapping[str, DomainScore], after: Mapping[str, DomainScore]) -> dict[str, str]:
    """Return {domain: why} of those whose scores at the two ends are of other documents."""
    return {
        domain: f"{domain} was scored over other documents at the stage's entry than at its end"
        for domain in before.keys() & after.keys()
        if not before[domain].is_of_the_text_of(after[domain])
    }


def _course(scores: Sequence[DomainScore], plan: StagePlan) -> Course:
    """Return (tokens of the stage, bits per byte) of a domain."""
    batch = plan.config.training.batch_tokens
    return [((score.step - plan.first_step) * batch, score.bpb) for score in scores]


def _noise(courses: Mapping[str, Course], plan: StagePlan) -> dict[str, float]:
    """Return {domain: how much its scores waver} of those whose scores tell."""
    wavers = noise_steps(plan)
    if not wavers:
        return {}
    within = (wavers[0], wavers[-1])
    found = {d: comparison_noise(_between(c, plan, steps=within)) for d, c in courses.items()}
    return {domain: noise for domain, noise in found.items() if noise is not None}


def _between(course: Course, plan: StagePlan, *, steps: tuple[int, int]) -> Course:
    """Return the part of a course between two steps of the stage, both included."""
    first, last = steps
    batch = plan.config.training.batch_tokens
    return [point for point in course if first * batch <= point[0] <= last * batch]


def _logged(folder: RunFolder, stage: str, *, branch: Mapping[int, float]) -> list[Row]:
    """Return the metric rows of a stage on a branch, by step."""
    rows = {
        row["step"]: row
        for row in read_placed_rows(folder.metrics)
        if row.get("stage") == stage and is_on(branch, row)
    }
    return [rows[step] for step in sorted(rows)]


def _begins(logged: Sequence[Row], plan: StagePlan) -> int:
    """Return the place of the first row of the stage's own mixture.

    Replayed text is known text: against its loss a stage that ends on new text looks broken.
    """
    data = plan.config.data
    ramp = data.ramp_fraction * plan.base_steps if plan.index and data.replay_share else 0.0
    first = plan.first_step + ramp
    behind = [place for place, row in enumerate(logged) if row["step"] > first]
    return behind[0] if behind else 0


def _loss(row: Row) -> float:
    # One that was not finite is null in the file; it moved no weight, and is worth telling.
    return math.inf if row.get("loss") is None else float(row["loss"])


def _is_finite(row: Row) -> bool:
    return row.get("loss") is not None and row.get("grad_norm", 0.0) is not None


def _warned_before(
    folder: RunFolder, plan: StagePlan, *, branch: Mapping[int, float]
) -> frozenset[tuple[str, str | None]]:
    """Return (id, subject) of the warnings of the gate that opened this stage."""
    opened = [
        row for row in all_verdicts(folder) if row["step"] == plan.first_step and is_on(branch, row)
    ]
    return frozenset(
        (check["id"], check["subject"])
        for verdict in opened[-1:]
        for check in read_checks(folder, verdict)
        if check["result"] == "warn"
    )
