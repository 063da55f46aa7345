"""Skills of a run: the newest figure of every task, and its whole course."""

from __future__ import annotations

from dataclasses import dataclass, replace

from yxanul.config.evaluation import GOLD, KIN, TASKS
from yxanul.curriculum.checks.kinds import gates, kinds
from yxanul.curriculum.conditions import conditions
from yxanul.report.reading.course import later_stages
from yxanul.report.reading.gather import Run
from yxanul.report.reading.measures import SkillScore
from yxanul.report.reading.records import Record
from yxanul.report.reading.traced import Cited, Story, Traced
from yxanul.report.reading.words import tone

CHANCES = {
    "hellaswag": (0.25, "four endings, one of them right"),
    "cloze": (0.25, "four endings, one of them right"),
}
"""{task: (share of items that guessing gets right, why)}; other tasks have no such level."""


@dataclass(frozen=True)
class Figure:
    """One measure of one score, and what the gate made of its change."""

    measure: Traced | str
    value: Traced | None
    low: Traced | None
    high: Traced | None
    check: Record | None
    """G4's row about it at that step."""
    detectable: Traced | None
    gates: bool

    @property
    def mde(self) -> Traced | None:
        """The smallest change that could be shown: paired, where the gate says it."""
        told = self.check.number("mde") if self.check is not None else None
        if told is None:
            return self.detectable
        return told.shown_as(self._kinds[1])

    @property
    def moved(self) -> Traced | None:
        """The change over the stage, as G4 saw it; None for what does not gate."""
        return self._of_check("value")

    @property
    def moved_low(self) -> Traced | None:
        """One-sided 95 % bound below the change."""
        return self._of_check("low")

    @property
    def moved_high(self) -> Traced | None:
        """One-sided 95 % bound above the change."""
        return self._of_check("high")

    def _of_check(self, key: str) -> Traced | None:
        told = self.check.number(key) if self.check is not None and self.gates else None
        return told.shown_as(self._kinds[0]) if told is not None else None

    @property
    def _kinds(self) -> tuple[str, str]:
        subject = self.check.find("subject") if self.check is not None else ""
        return kinds("G4", str(subject))

    @property
    def measure_name(self) -> str:
        """The measure's plain name."""
        return str(self.measure.value) if isinstance(self.measure, Traced) else self.measure

    @property
    def result(self) -> Traced | None:
        """What G4 said of it."""
        return self.check.text("result") if self.check is not None else None

    @property
    def tone(self) -> str:
        """How G4's result looks."""
        return tone(self.result)


@dataclass(frozen=True)
class Moment:
    """A task's figures at one step: the start, or the end of a stage."""

    title: Story
    items: Traced
    figures: tuple[Figure, ...]


@dataclass(frozen=True)
class Skill:
    """One task: how it was scored, its newest figures, and the course up to them."""

    name: Traced | None
    chance: Cited | None
    newest: Moment
    moments: tuple[Moment, ...]
    brief: tuple[tuple[str, Traced], ...]
    """Version, worked examples, level of the sandbox: a word and a value each."""
    facts: tuple[tuple[str, Traced], ...]
    """Where the items came from, and the hashes."""
    clusters: Traced | None
    kin: tuple[Traced, ...]
    """Training sources of this run that are made from the task's own problems."""
    conditions: tuple[str, ...]
    """What kept the model, at the newest score, from what the task has by its definition."""


def skills(run: Run) -> tuple[Skill, ...]:
    """Return the tasks scored on the run's branch, in the order in which they were first scored."""
    return tuple(_skill(run, scores) for scores in scores_by_task(run).values())


def headline(run: Run, task: str) -> tuple[SkillScore, Figure] | None:
    """Return the newest score that has what stands for a task; None when it was never taken."""
    measure = TASKS[task].headline
    for one in reversed(scores_by_task(run).get(task, [])):
        if one.value(measure) is not None:
            return one, _figure(run, one, measure=measure)
    return None


def key_of(score: SkillScore, measure: str) -> Traced | str:
    """Return a measure's name; gold_bpb has none of its own in the file."""
    if measure == GOLD:
        return GOLD
    return Traced(measure, (score.record.source("measures", measure),), "key")


def moment_title(run: Run, one: SkillScore) -> Story:
    """Say which moment of the run a score was taken at: its start, or the end of a stage."""
    ended = [v for v in run.verdicts if v.need_count("step") == one.step and run.belongs(v)]
    stage = ended[-1].text("stage") if ended else None
    if stage is not None:
        return ("after ", stage)
    return ("start",) if one.step == 0 else ("at step ", one.at_step())


def scores_by_task(run: Run) -> dict[str, list[SkillScore]]:
    """Return {task: its scores on the branch, by step}.

    Of several at one step, which are of the same weights, one that has what stands for the task,
    then the one of the most items, then with the most measures, then with the task's own number of
    worked examples, then the last.
    """
    found: dict[str, dict[int, SkillScore]] = {}
    for one in run.skills:
        if not run.has(one.step, attempt=one.attempt):
            continue
        steps = found.setdefault(one.task, {})
        known = steps.get(one.step)
        if known is None or _whole(one) >= _whole(known):
            steps[one.step] = one
    return {task: [steps[step] for step in sorted(steps)] for task, steps in found.items()}


def with_evaluations(run: Run) -> Run:
    """Return a run whose skills are also those that `yxanul evaluate` scored."""
    return replace(run, skills=(*run.skills, *run.evaluations))


def _whole(one: SkillScore) -> tuple[bool, int, int, bool]:
    """Return how much of its task a score is."""
    facts = TASKS.get(one.task)
    has_headline = facts is not None and one.value(facts.headline) is not None
    is_usual = facts is not None and one.score.shots == facts.shots
    return has_headline, len(one.score.ids), len(one.measures), is_usual


def _skill(run: Run, scores: list[SkillScore]) -> Skill:
    last = scores[-1]
    record = last.record
    moments = tuple(_moment(run, one) for one in scores)
    chance = CHANCES.get(last.task)
    return Skill(
        name=record.text("task"),
        chance=Cited(f"{100 * chance[0]:.1f} %", chance[1]) if chance else None,
        newest=moments[-1],
        moments=moments,
        brief=_told(
            ("version", record.text("version")),
            ("worked examples", record.number("shots")),
            ("sandbox", record.text("sandbox")),
        ),
        facts=_told(
            ("items from", record.text("origin")),
            ("hash of the prompts", record.text("prompts_sha256")),
            ("hash of the items", record.text("items_sha256")),
        ),
        clusters=last.clusters(),
        kin=kin_of(run, last),
        conditions=tuple(conditions(last.score)),
    )


def _told(*pairs: tuple[str, Traced | None]) -> tuple[tuple[str, Traced], ...]:
    return tuple((word, value) for word, value in pairs if value is not None)


def _moment(run: Run, one: SkillScore) -> Moment:
    return Moment(
        title=moment_title(run, one),
        items=one.items(),
        figures=tuple(_figure(run, one, measure=measure) for measure in one.measures),
    )


def _figure(run: Run, one: SkillScore, *, measure: str) -> Figure:
    low, high = one.interval(measure) or (None, None)
    return Figure(
        measure=key_of(one, measure),
        value=one.value(measure),
        low=low,
        high=high,
        check=_check_of(run, one, measure=measure),
        detectable=one.detectable(measure),
        gates=gates(one.task, measure),
    )


def _check_of(run: Run, one: SkillScore, *, measure: str) -> Record | None:
    """Return G4's row about a measure at the end of a stage, of the run's branch."""
    found = [
        row
        for row in run.checks
        if is_skill_check(row)
        and row.find("subject") == f"{one.task} {measure}"
        and row.find("step") == one.step
        and run.belongs(row)
    ]
    return found[-1] if found else None


def is_skill_check(row: Record) -> bool:
    """Tell whether a check is G4: the only one that names a task and its measure."""
    return bool(row.find("id") == "G4")


def kin_of(run: Run, one: SkillScore) -> tuple[Traced, ...]:
    """Return the sources trained on that are made from a task's own problems.

    As the score tells them, which needs no prepared data; a gate's does not.
    """
    if one.score.kin is None:
        return kin(run, one.task)
    names = (one.record.text("kin", n) for n in range(len(one.record.items("kin"))))
    return tuple(name for name in names if name is not None)


def kin(run: Run, task: str) -> tuple[Traced, ...]:
    """Return the sources trained on until now that are made from a task's own problems."""
    if run.manifest is None:
        return ()
    later, found = later_stages(run), run.manifest.table("sources")
    names = [n for n in found if n in KIN.get(task, ()) and found[n]["stage"] not in later]
    return tuple(Traced(n, (run.manifest.source("sources", n),), "key") for n in names)
