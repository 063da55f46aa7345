"""The course of a run as its rows tell it: stages in order, attempts, borders between stages."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby

from yxanul.report.gather import Run
from yxanul.report.records import Record
from yxanul.report.traced import Traced
from yxanul.runfolder.checkpoints import CHECKPOINT_NAME


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
    tokens, stage = 0, None
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


def stage_verdict(run: Run, stage: str) -> Record | None:
    """Return what the gate of a stage said last on the run's branch; None before it was asked."""
    said = [v for v in run.verdicts if v.find("stage") == stage and run.belongs(v)]
    return said[-1] if said else None


def own_domains(run: Run, stage: str) -> tuple[str, ...]:
    """Return the domains of a stage's own sources; empty without a manifest."""
    if run.manifest is None:
        return ()
    sources = run.manifest.table("sources").values()
    return tuple(dict.fromkeys(s["domain"] for s in sources if s["stage"] == stage))


def trained_seconds(run: Run) -> Traced | None:
    """Return the seconds of all steps, abandoned attempts included; None without step times.

    A logged row stands for the steps since the row of its attempt before it.
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
