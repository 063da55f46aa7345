"""Every decision of a run, computed again from what is stored."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from yxanul.config.schema import GateConfig
from yxanul.curriculum.checks.check import Check
from yxanul.curriculum.course import read_course, read_frozen_config
from yxanul.curriculum.evidence import Asked, gather_evidence
from yxanul.curriculum.gate import Decision, Evidence, decide, decide_plateau
from yxanul.curriculum.stages import StagePlan
from yxanul.errors import CorruptDataError, UsageError
from yxanul.runfolder.exits import begun_run
from yxanul.runfolder.layout import RunFolder
from yxanul.runfolder.lineage import branch_of
from yxanul.runfolder.rows import Row
from yxanul.runfolder.scores import scores_at
from yxanul.runfolder.skill_scores import skills_at
from yxanul.runfolder.verdicts import all_plateaus, all_verdicts, find_override, read_checks

# Checks of a stage's end against its beginning.
_COMPARING = ("G2", "G3", "G4")


class LostScoresError(UsageError):
    """A score that a stored decision rests on is gone."""


@dataclass(frozen=True)
class Judgement:
    """A stored decision beside the one that follows from the stored evidence now."""

    stage: str
    attempt: int
    step: int
    stored_verdict: str
    decision: Decision
    is_plateau: bool = False
    """Whether it answered if the stage may begin its decay."""
    override: Row | None = None
    """What a person decided instead: verdict, by, reason."""
    is_computed: bool = True
    """False: scores that it rests on are gone, and the decision is the stored one."""

    @property
    def agrees(self) -> bool:
        """Whether what is stored is what follows."""
        return self.stored_verdict == self.decision.verdict


def judge_again(root: Path, *, stage: str | None = None) -> list[Judgement]:
    """Compute every decision of a run again, of all attempts, in the order of their steps.

    stage: only this one's. A folder without a verdict is a `UsageError`, without the scores that
    it rests on a `LostScoresError`, a damaged one a `CorruptDataError`.
    """
    folder = begun_run(root)
    verdicts, plateaus = all_verdicts(folder), all_plateaus(folder)
    known = list(dict.fromkeys(row["stage"] for row in (*verdicts, *plateaus)))
    if not known:
        raise UsageError(f"{root}: no gate has been asked yet; it is when a stage ends")
    if stage is not None and stage not in known:
        names = ", ".join(known)
        raise UsageError(f"{root}: the gate of {stage!r} has not been asked; judged were {names}")
    judged = [
        _judge(folder, row, decide=judge)
        for rows, judge in ((verdicts, decide), (plateaus, decide_plateau))
        for row in rows
        if stage in (None, row["stage"])
    ]
    return sorted(judged, key=lambda one: (one.attempt, one.step))


def with_override(folder: RunFolder, judged: Judgement) -> Judgement:
    """Return a verdict's judgement with what a person has decided since it was made."""
    place = {"stage": judged.stage, "attempt": judged.attempt, "step": judged.step}
    return replace(judged, override=find_override(folder, place))


def judge_verdict(folder: RunFolder, verdict: Row) -> Judgement:
    """Compute one verdict again, which counts or a person has decided otherwise; see above."""
    return _judge(folder, _as_given(folder, verdict), decide=decide)


def stored_judgement(folder: RunFolder, verdict: Row) -> Judgement:
    """Return the gate's own verdict, which counts or a person has decided otherwise, as stored."""
    row = _as_given(folder, verdict)
    checks = [_stored_check(check) for check in read_checks(folder, row)]
    return Judgement(
        **_place_of(row),
        stored_verdict=row["verdict"],
        decision=Decision(row["verdict"], str(row.get("why")), tuple(checks)),
        is_computed=False,
    )


def _as_given(folder: RunFolder, verdict: Row) -> Row:
    """Return the row that the gate itself wrote of a verdict."""
    place = _place_of(verdict)
    return next(row for row in all_verdicts(folder) if place.items() <= row.items())


def _place_of(row: Row) -> dict[str, Any]:
    return {key: row[key] for key in ("stage", "attempt", "step")}


def _stored_check(row: Row) -> Check:
    """Return a check as its row tells it; one of an earlier version may lack figures."""
    values: dict[str, Any] = {field.name: row.get(field.name) for field in fields(Check)}
    return Check(**values)


def _judge(
    folder: RunFolder, row: Row, *, decide: Callable[[GateConfig, Evidence], Decision]
) -> Judgement:
    plan, asked = read_asked(folder, row)
    evidence = gather_evidence(folder, plan, asked=asked)
    is_plateau = decide is decide_plateau
    _refuse_lost_scores(folder, plan, asked=asked, row=row, is_plateau=is_plateau)
    return Judgement(
        **_place_of(row),
        stored_verdict=row["verdict"],
        decision=decide(plan.config.gate, evidence),
        is_plateau=is_plateau,
        override=None if is_plateau else find_override(folder, row),
    )


def read_asked(folder: RunFolder, row: Row) -> tuple[StagePlan, Asked]:
    """Return the stage that a decision's row is about, and what was asked; `CorruptDataError`."""
    try:
        plans = read_course(read_frozen_config(folder), folder, attempt=row["attempt"])
        return next(plan for plan in plans if plan.name == row["stage"]), Asked.from_row(row)
    except (KeyError, TypeError, ValueError, StopIteration) as error:
        raise CorruptDataError(
            f"{folder.gates}: the verdict on {row['stage']} does not fit {folder.config} "
            f"({error!r}); bring good copies back"
        ) from error


def _refuse_lost_scores(
    folder: RunFolder, plan: StagePlan, *, asked: Asked, row: Row, is_plateau: bool
) -> None:
    """Raise LostScoresError for a score that the stored decision rests on and that is gone."""
    checks = read_checks(folder, row)
    wanted: dict[int, list[str]] = defaultdict(list)
    if not is_plateau:
        wanted[plan.first_step] += _scored_before(checks)
        wanted[plan.last_step] += _scored_after(checks, asked)
    for domain, steps in asked.scored.items():
        for step in steps:
            wanted[step].append(domain)
    branch = branch_of(folder.lineage, asked.attempt)
    places = {plan.first_step: "began", plan.last_step: "ended"}
    for step in sorted(wanted):
        scored = scores_at(folder.scores, step, branch=branch)
        found = {*scored, *skills_at(folder.scores, step, branch=branch)}
        absent = [name for name in dict.fromkeys(wanted[step]) if name not in found]
        if absent:
            raise LostScoresError(
                f"{folder.scores} has no score of {', '.join(absent)} at step {step}, where "
                f"{plan.name} {places.get(step, 'was scored on its way')}, so its gate cannot be "
                "computed again; bring the files back"
            )


def _scored_before(checks: Sequence[Row]) -> list[str]:
    """Return the domains and tasks that a stored check compared with the stage's beginning."""
    return [
        _scored(check)
        for check in checks
        if check.get("id") in _COMPARING and check.get("margin") is not None
    ]


def _scored_after(checks: Sequence[Row], asked: Asked) -> list[str]:
    """Return the domains and tasks that had a score at the stage's end when the gate was asked.

    Every domain had one, and every task with a check, but for what a check says was not scored.
    """
    missed = {
        _scored(check)
        for check in checks
        if check.get("id") in _COMPARING
        and check.get("result") == "not run"
        and check.get("action") is not None
    }
    tasks = [_scored(check) for check in checks if check.get("id") == "G4"]
    names = (*asked.own_domains, *asked.older_domains, *tasks)
    return [name for name in names if name not in missed and name not in asked.failures]


def _scored(check: Row) -> str:
    """Return the domain or task that a stored check is about: G4 names a task and its measure."""
    return str(check.get("subject")).partition(" ")[0]
