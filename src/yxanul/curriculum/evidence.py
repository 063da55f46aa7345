"""From a run folder to what its gate judges by: the only file of this room that reads one.

The loop gathers evidence here when a stage ends, and `yxanul gate` gathers it again at any later
time, so that every decision can be recomputed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from yxanul.curriculum.checks import Integrity
from yxanul.curriculum.course import read_course, read_frozen_config
from yxanul.curriculum.gate import Decision, Evidence, decide
from yxanul.curriculum.stages import StagePlan
from yxanul.errors import CorruptDataError, UsageError
from yxanul.runfolder.layout import RunFolder
from yxanul.runfolder.lineage import branch_of, is_on
from yxanul.runfolder.rows import Row, read_rows
from yxanul.runfolder.scores import domain_course, scores_at
from yxanul.runfolder.verdicts import all_verdicts, read_checks


def gather_evidence(
    folder: RunFolder,
    plan: StagePlan,
    *,
    attempt: int,
    domains: tuple[Sequence[str], Sequence[str]],
    integrity: Integrity | None,
) -> Evidence:
    """Read what was stored of a stage as `attempt` ended it; domains are (own, older)."""
    branch = branch_of(folder.lineage, attempt)
    own, older = domains
    before = scores_at(folder.scores, plan.first_step, branch=branch)
    after = scores_at(folder.scores, plan.last_step, branch=branch)
    batch = plan.config.training.batch_tokens
    courses = {
        domain: [
            ((score.step - plan.first_step) * batch, score.bpb)
            for score in domain_course(folder.scores, domain, branch=branch)
            if plan.first_step <= score.step <= plan.last_step
        ]
        for domain in own
    }
    return Evidence(
        own_domains=tuple(own),
        older_domains=tuple(older),
        before={domain: score.nats for domain, score in before.items()},
        after={domain: score.nats for domain, score in after.items()},
        courses=courses,
        losses=_losses(folder, plan.name, branch=branch),
        integrity=integrity,
        warned=_warned_before(folder, plan, branch=branch),
        rollbacks=plan.changes.rollbacks,
        extensions=plan.changes.extensions,
    )


@dataclass(frozen=True)
class Judgement:
    """A stored verdict beside the one that follows from the stored evidence now."""

    stage: str
    attempt: int
    step: int
    stored_verdict: str
    decision: Decision

    @property
    def agrees(self) -> bool:
        """Whether both are the same."""
        return self.stored_verdict == self.decision.verdict


def judge_again(root: Path, *, stage: str | None = None) -> list[Judgement]:
    """Compute every verdict of a run again, of all attempts, in the order they were given.

    stage: only this one's. A folder without a verdict, or without the scores that it rests on, is
    a `UsageError`, a damaged one a `CorruptDataError`.
    """
    folder = RunFolder(root)
    if not folder.config.is_file():
        raise UsageError(f"{root} is not a run folder: it has no config.yaml; name one of runs/")
    verdicts = all_verdicts(folder)
    told = [row for row in verdicts if stage is None or stage == row["stage"]]
    if not told:
        known = ", ".join(dict.fromkeys(row["stage"] for row in verdicts))
        if not known:
            raise UsageError(f"{root}: no gate has been asked yet; it is when a stage ends")
        raise UsageError(f"{root}: the gate of {stage!r} has not been asked; judged were {known}")
    return [
        Judgement(
            stage=row["stage"],
            attempt=row["attempt"],
            step=row["step"],
            stored_verdict=row["verdict"],
            decision=_decide_again(folder, row),
        )
        for row in told
    ]


def _decide_again(folder: RunFolder, verdict: Row) -> Decision:
    stage, attempt = verdict["stage"], verdict["attempt"]
    try:
        plans = read_course(read_frozen_config(folder), folder, attempt=attempt)
        plan = next(plan for plan in plans if plan.name == stage)
        stored = verdict["evidence"]
        integrity = None if stored["integrity"] is None else Integrity(**stored["integrity"])
        domains = (stored["own_domains"], stored["older_domains"])
    except (KeyError, TypeError, StopIteration) as error:
        raise CorruptDataError(
            f"{folder.gates}: the verdict on {stage} does not fit {folder.config} ({error!r}); "
            "bring good copies back"
        ) from error
    evidence = gather_evidence(folder, plan, attempt=attempt, domains=domains, integrity=integrity)
    absent = [domain for pair in domains for domain in pair if domain not in evidence.after]
    if absent:
        raise UsageError(
            f"{folder.scores} has no score of {', '.join(absent)} at step {plan.last_step}, where "
            f"{stage} ended, so its gate cannot be computed again; bring the files back"
        )
    return decide(plan.config.gate, evidence)


def evidence_row(evidence: Evidence) -> dict[str, Any]:
    """Return what `judge_again` cannot find elsewhere, for the verdict row."""
    integrity = None if evidence.integrity is None else vars(evidence.integrity)
    return {
        "own_domains": list(evidence.own_domains),
        "older_domains": list(evidence.older_domains),
        "integrity": integrity,
    }


def _losses(folder: RunFolder, stage: str, *, branch: Mapping[int, float]) -> list[float]:
    """Return the logged losses of a stage on a branch, by step."""
    rows = {
        row["step"]: row["loss"]
        for row in read_rows(folder.metrics)
        if row["stage"] == stage and is_on(branch, row)
    }
    return [rows[step] for step in sorted(rows)]


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
