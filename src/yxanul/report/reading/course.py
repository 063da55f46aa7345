"""The course of a run as its rows tell it: stages in order, attempts, borders between stages."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Generic, TypeVar

from yxanul.curriculum.course import stages_after
from yxanul.curriculum.stages import StagePlan
from yxanul.report.reading.gather import Run
from yxanul.report.reading.records import Record
from yxanul.report.reading.traced import Traced
from yxanul.runfolder.checkpoints import CHECKPOINT_NAME
from yxanul.runfolder.scores import is_same_text
from yxanul.runfolder.spending import parse_payment
from yxanul.runfolder.verdicts import CLOSING
from yxanul.watch.pace import Pace

Point = TypeVar("Point")


@dataclass(frozen=True)
class Segment:
    """Metric rows that follow one another in one stage and attempt."""

    stage: str
    attempt: int
    belongs: bool
    """False: a later attempt left this piece behind."""
    rows: tuple[Record, ...]


@dataclass(frozen=True)
class Border:
    """Where a stage begins: `tokens` seen, and the stage's place in the course from 0."""

    tokens: int
    index: int


@dataclass(frozen=True)
class Branch(Generic[Point]):
    """The points of a curve that belong to the run, or to one attempt that it left behind."""

    attempt: int | None
    """None: the run itself."""
    points: tuple[Point, ...]
    shared: tuple[Point, ...] = ()
    """Of an attempt left behind: the run's last point before it, if any, where the two part."""


def segments(run: Run) -> list[Segment]:
    """Return the rows piece by piece, in the order in which they were trained."""

    def key(row: Record) -> tuple[str, int, bool]:
        return row.need_text("stage"), row.need_count("attempt"), run.belongs(row)

    return [Segment(*name, tuple(rows)) for name, rows in groupby(run.metrics, key)]


def stage_names(run: Run) -> tuple[Traced, ...]:
    """Return the stages in order: those of the configuration, then any that only rows know."""
    names: dict[str, Traced] = {}
    if run.config is not None:
        for index in range(len(run.config.items("stages"))):
            name = run.config.text("stages", index, "name")
            if name is not None:
                names[str(name.value)] = name
    for record in (*run.metrics, *run.verdicts, *run.checks):
        if record.find("stage") not in names and (name := record.text("stage")) is not None:
            names[str(name.value)] = name
    return tuple(names.values())


def stage_indices(run: Run) -> dict[str, int]:
    """Return {stage: its place in the course, from 0}."""
    return {str(name.value): index for index, name in enumerate(stage_names(run))}


def borders(run: Run) -> list[Border]:
    """Return where each stage of the run's branch begins, by the rows before and after."""
    places, indices = [], stage_indices(run)
    first = next(iter(planned_stages(run)), None)
    tokens, stage = 0 if first is None else first.first_token, None
    for segment in (s for s in segments(run) if s.belongs):
        if segment.stage != stage:
            stage = segment.stage
            places.append(Border(tokens, indices[stage]))
        tokens = segment.rows[-1].need_count("tokens_seen")
    return places


def last_row(run: Run) -> Record:
    """Return the newest row of the run's branch, or the newest of all before it has one."""
    own = [row for row in run.metrics if run.belongs(row)]
    return (own or run.metrics)[-1]


def later_stages(run: Run) -> set[str]:
    """Return the stages that come after that of the newest row: nothing was trained of them."""
    places = stage_indices(run)
    here = places[last_row(run).need_text("stage")]
    return {name for name, place in places.items() if place > here}


def planned_stages(run: Run) -> tuple[StagePlan, ...]:
    """Return the stages from the one on that the run began with; none where no settings tell."""
    begun = run.attempts[0].number("step") if run.attempts else None
    return stages_after(run.course, 0.0 if begun is None else begun.number)


def own_seen(run: Run, *, tokens: Traced, steps: Traced) -> tuple[Traced, Traced]:
    """Return the run's own of the tokens and steps that its clock has counted.

    The clock of a run that was begun at a later stage counts the stages before it, too. Where no
    settings tell how many tokens those have, both are returned as they are.
    """
    first = next(iter(planned_stages(run)), None)
    begun = run.attempts[0].number("step") if run.attempts else None
    if first is None or begun is None or not begun.value or run.config is None:
        return tokens, steps
    where = (*tokens.sources, *begun.sources, run.config.source("stages"))
    return (
        Traced(int(tokens.number) - first.first_token, where, "own tokens"),
        Traced(int(steps.number - begun.number), (*steps.sources, *begun.sources), "since"),
    )


def last_token(run: Run) -> int:
    """Return the most tokens that a row has seen, of abandoned attempts too."""
    return max(row.need_count("tokens_seen") for row in run.metrics)


def tokens_at(run: Run, step: int, *, attempt: int, start: str) -> tuple[str, int] | None:
    """Return the address and number of tokens seen at a step; None: no row tells.

    start: the address of what says that the step is 0, where no token has been seen.
    """
    if step == 0:
        return start, 0
    at_step = [row for row in run.metrics if row.find("step") == step]
    # A score at an attempt's very start stands at the last step of the attempt it came from.
    for row in sorted(at_step, key=lambda row: row.find("attempt") != attempt):
        return row.source("tokens_seen"), row.need_count("tokens_seen")
    return None


def like_scores(run: Run, domain: str) -> list[Record]:
    """Return a domain's scores, by step, over the documents of the run's newest one.

    Those of attempts left behind are among them. Text of a stage that has not begun may be prepared
    anew: what was scored before is of other documents, and compares with none of these.
    """
    found = [score for score in run.scores if score.find("domain") == domain]
    newest = next(filter(run.belongs, reversed(found)), found[-1] if found else None)
    return [s for s in found if newest is not None and is_same_text(s.values, newest.values)]


def own_scores(run: Run, domain: str) -> list[Record]:
    """Return those of a domain's `like_scores` that belong to the run."""
    return [score for score in like_scores(run, domain) if run.belongs(score)]


def placed_scores(run: Run, scores: Sequence[Record]) -> list[tuple[Record, tuple[str, int]]]:
    """Return scores, each with the address and number of tokens seen when it was taken.

    One that no row of metrics.jsonl places is left out.
    """
    placed = []
    for score in scores:
        step, attempt = score.need_count("step"), score.need_count("attempt")
        tokens = tokens_at(run, step, attempt=attempt, start=score.source("step"))
        if tokens is not None:
            placed.append((score, tokens))
    return placed


def branches(
    points: Sequence[Point], *, place: Callable[[Point], tuple[int | None, int]]
) -> list[Branch[Point]]:
    """Return the points of the run itself, then those of each attempt that it left behind.

    `place` returns the attempt by which a point was left behind, None: it belongs to the run, and
    the tokens seen there.
    """
    found: dict[int | None, list[Point]] = {None: []}
    for point in points:
        found.setdefault(place(point)[0], []).append(point)
    own = found.pop(None)
    left = []
    for attempt, branch in found.items():
        begun = place(branch[0])[1]
        shared = [point for point in own if place(point)[1] < begun][-1:]
        left.append(Branch(attempt, tuple(branch), tuple(shared)))
    return [Branch(None, tuple(own)), *left]


def stage_verdict(run: Run, stage: str) -> Record | None:
    """Return what the gate of a stage said last on the run's branch; None before it was asked."""
    said = [v for v in run.verdicts if v.find("stage") == stage and run.belongs(v)]
    return said[-1] if said else None


def override_of(run: Run, verdict: Record) -> Record | None:
    """Return what a person decided last after a verdict; None when the verdict stands."""
    keys = ("stage", "attempt", "step")
    after = [o for o in run.overrides if all(o.find(key) == verdict.find(key) for key in keys)]
    return after[-1] if after else None


def is_over(run: Run, stage: str) -> bool:
    """Tell whether a stage is closed, by its gate or by a person."""
    said = stage_verdict(run, stage)
    decided = override_of(run, said) if said is not None else None
    last = decided or said
    return last is not None and last.find("verdict") in CLOSING


def own_domains(run: Run, stage: str) -> tuple[str, ...]:
    """Return the domains of a stage's own sources; without a manifest, those its gate judged."""
    if run.manifest is None:
        verdict = stage_verdict(run, stage)
        return tuple(verdict.items("evidence", "own_domains")) if verdict is not None else ()
    sources = run.manifest.table("sources").values()
    return tuple(dict.fromkeys(s["domain"] for s in sources if s["stage"] == stage))


def tokens_spent(run: Run) -> Traced | None:
    """Return the tokens of all attempts, those left behind too; None when no row tells.

    Where no process wrote them, or only later than is told of, the last attempt's row has those
    that were spent before it.
    """
    if run.spending or not run.attempts:
        spent = run.spending[-1].number("tokens_spent") if run.spending else None
        return None if spent is None else spent.shown_as("count")
    start, seen = run.attempts[-1], last_row(run).number("tokens_seen")
    before, step = start.number("tokens_spent"), start.number("step")
    if before is None or step is None or seen is None:
        return None
    attempt, place = start.need_count("attempt"), start.source("step")
    begun = tokens_at(run, int(step.number), attempt=attempt, start=place)
    if begun is None:
        return None
    total = int(before.number) + int(seen.number) - begun[1]
    return Traced(total, (*before.sources, *seen.sources, begun[0]), "spent tokens", "count")


def trained_seconds(run: Run) -> Traced | None:
    """Return the seconds of all steps, abandoned attempts included; None without step times.

    They are those between rows of one process, as `Pace` counts them. What precedes its first row
    counts for nothing: it prepares, compiles, and does the first steps.
    """
    if run.model is None:
        return _seconds_by_steps(run)
    pace = Pace(run.model)
    for row in run.spending:
        pace.add(parse_payment(row.values, place=f"{row.path}, line {row.line}"))
    if not pace.trained_s:
        return _seconds_by_steps(run)
    keys = ("seconds", "scoring_s", "tokens_spent", "seq_len")
    return Traced(pace.trained_s, tuple(f"spending.jsonl:*#/{key}" for key in keys), "trained")


def _seconds_by_steps(run: Run) -> Traced | None:
    """Let a logged row stand for the steps since the row of its attempt before it.

    That is all that is known where no process has written what it had cost by then.
    """
    seconds, last = 0.0, _first_steps(run)
    for row in run.metrics:
        step_s = row.plain_number("step_s")
        if step_s is None:
            return None
        step, attempt = row.need_count("step"), row.need_count("attempt")
        first = step - row.need_count("stage_step")
        seconds += step_s * (step - last.get(attempt, first))
        last[attempt] = step
    sources = ("metrics.jsonl:*#/step_s", "metrics.jsonl:*#/step", "lineage.jsonl:*#/parent")
    return Traced(seconds, sources, "spent")


def _first_steps(run: Run) -> dict[int, int]:
    """Return {attempt: the step that it began after}, for those begun from the run's own steps."""
    parents = {row.need_count("attempt"): row.find("parent") for row in run.attempts}
    matches = {a: CHECKPOINT_NAME.fullmatch(str(parent)) for a, parent in parents.items()}
    return {attempt: int(match[1]) for attempt, match in matches.items() if match}


def score_domains(run: Run) -> tuple[str, ...]:
    """Return all scored domains, in the order of the first verdict where there is one."""
    ordered = [d for v in run.verdicts for k in ("bpb_before", "bpb_after") for d in v.table(k)]
    scored = {score.need_text("domain"): None for score in run.scores}
    return tuple(dict.fromkeys([d for d in ordered if d in scored] + list(scored)))
