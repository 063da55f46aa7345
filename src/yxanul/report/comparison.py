"""Several runs side by side: what each is and reached, and in which settings they differ.

The one idea: a figure is compared only with its like. Runs that read the same held-out documents
are compared document by document, with bounds; those that read others, or scored other items or
prompts, are shown and not compared. Every figure keeps the address of the run that it comes from.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

from yxanul.config.evaluation import GOLD, TASKS
from yxanul.curriculum.statistics.bootstrap import relative_change
from yxanul.report.reading.course import (
    last_row,
    own_scores,
    own_seen,
    score_domains,
    trained_seconds,
)
from yxanul.report.reading.gather import Run
from yxanul.report.reading.measures import SkillScore
from yxanul.report.reading.records import Key, Record
from yxanul.report.reading.skills import Figure, headline, kin, scores_by_task
from yxanul.report.reading.traced import Traced, of_run
from yxanul.report.sections.cost import cost
from yxanul.report.sections.summary import median_speed, parameters, summary
from yxanul.runfolder.scores import is_same_text

MOST_RUNS = 7
"""As many as there are colours that colour-blind people can tell apart."""
_OTHERWISE = "other items, prompts, version or length of answers"
_ROUNDING = 1e-9
"""Sums of the same numbers may differ by so much, relatively."""


@dataclass(frozen=True)
class Cell:
    """A run's figure in a line; of a rate with its interval."""

    value: Traced | None
    low: Traced | None = None
    high: Traced | None = None
    moved: Traced | None = None
    """Bits per byte against the first run's, relative, over the same documents."""
    moved_low: Traced | None = None
    """One-sided 95 % bound below."""
    moved_high: Traced | None = None
    is_best: bool = False
    tone: str = ""
    """How a word looks; "" for a number."""


@dataclass(frozen=True)
class Line:
    """One thing that is compared, with a cell for each run."""

    title: str
    cells: tuple[Cell, ...]
    note: str = ""


def facts(runs: Sequence[Run]) -> tuple[Line, ...]:
    """Return what the runs are: size, tokens, time, dollars, speed."""
    wanted: tuple[tuple[str, Callable[[Run], Traced | None]], ...] = (
        ("model", lambda run: run.config.text("model", "name") if run.config is not None else None),
        ("parameters", lambda run: _shown(parameters(run), "count")),
        ("tokens seen", lambda run: _shown(_seen(run)[0], "count")),
        ("steps", lambda run: _seen(run)[1]),
        ("training time", lambda run: _shown(trained_seconds(run), "duration")),
        ("wall clock", lambda run: None if (spent := cost(run)) is None else spent.wall),
        ("dollars", lambda run: None if (spent := cost(run)) is None else spent.usd),
        ("device", lambda run: None if (at := run.environment) is None else at.text("device")),
        ("tokens/s, median", lambda run: _shown(median_speed(run, "tokens_per_s"), "whole")),
        ("MFU (PaLM), median", lambda run: _shown(median_speed(run, "mfu"), "share")),
    )
    return tuple(
        Line(title, tuple(Cell(_of(run, find(run))) for run in runs)) for title, find in wanted
    )


def _seen(run: Run) -> tuple[Traced | None, Traced | None]:
    row = last_row(run)
    tokens, steps = row.number("tokens_seen"), row.number("step")
    if tokens is None or steps is None:
        return tokens, steps
    return own_seen(run, tokens=tokens, steps=steps)


def gates(runs: Sequence[Run]) -> tuple[Line, ...]:
    """Return what the gates said, a line for each stage that any run has."""
    marks = [{str(mark.stage.value): mark for mark in summary(run).gates} for run in runs]
    lines = []
    for stage in dict.fromkeys(name for own in marks for name in own):
        cells = []
        for run, own in zip(runs, marks, strict=True):
            mark = own.get(stage)
            said = None if mark is None else mark.overridden or mark.verdict
            cells.append(Cell(_of(run, said), tone="" if mark is None else mark.tone))
        lines.append(Line(stage, tuple(cells)))
    return tuple(lines)


def domains(runs: Sequence[Run]) -> tuple[Line, ...]:
    """Return the newest bits per byte of every domain; the lowest is the best."""
    lines = []
    for domain in dict.fromkeys(d for run in runs for d in score_domains(run)):
        newest = [_newest(run, domain) for run in runs]
        scored = [(run, one) for run, one in zip(runs, newest, strict=True) if one is not None]
        if not scored:
            continue
        same = all(_is_whole(one) for _, one in scored)
        pairs = combinations((one.values for _, one in scored), 2)
        same = same and all(is_same_text(*pair) for pair in pairs)
        # Without the first run there is nothing to tell a change against.
        first = scored[0] if same and newest[0] is not None else None
        cells = [
            Cell(None) if one is None else _domain_cell(run, one, first=first)
            for run, one in zip(runs, newest, strict=True)
        ]
        note = "" if same else "other documents in each run: not compared"
        lines.append(Line(domain, _best(cells, lowest=True) if same else tuple(cells), note))
    return tuple(lines)


def tasks(runs: Sequence[Run]) -> tuple[Line, ...]:
    """Return the newest figure that stands for every task, with its interval."""
    names = dict.fromkeys(task for run in runs for task in scores_by_task(run))
    lines = []
    for task in (name for name in names if name in TASKS):
        found = [headline(run, task) for run in runs]
        figures = [None if one is None else one[1] for one in found]
        cells = [_figure(run, figure) for run, figure in zip(runs, figures, strict=True)]
        if all(cell.value is None for cell in cells):
            continue
        same = len({_asked(one[0]) for one in found if one is not None}) <= 1
        lowest = TASKS[task].headline == GOLD
        note = TASKS[task].headline if same else f"{_OTHERWISE} in each run: not compared"
        near = [run.name for run in runs if kin(run, task)]
        note += f"; trained on the same problems or their kin: {', '.join(near)}" if near else ""
        lines.append(Line(task, _best(cells, lowest=lowest) if same else tuple(cells), note))
    return tuple(lines)


def differences(runs: Sequence[Run]) -> tuple[Line, ...]:
    """Return the settings in which the runs differ, by their place in config.yaml."""
    known = [dict(_settings(run)) for run in runs]
    lines = []
    for key in dict.fromkeys(key for own in known for key in own):
        values = [own.get(key) for own in known]
        if len({None if value is None else value.value for value in values}) > 1:
            cells = tuple(Cell(_of(run, v)) for run, v in zip(runs, values, strict=True))
            lines.append(Line(key, cells))
    return tuple(lines)


def _of(run: Run, value: Traced | None) -> Traced | None:
    """Return a value with the run's name before each address in its folder."""
    if value is None:
        return None
    return replace(value, sources=tuple(of_run(run.name, source) for source in value.sources))


def _shown(value: Traced | None, kind: str) -> Traced | None:
    return None if value is None else value.shown_as(kind)


def _domain_cell(run: Run, score: Record, *, first: tuple[Run, Record] | None) -> Cell:
    """Return a run's bits per byte, and how far they are from the first run's."""
    value = _of(run, _shown(score.number("bpb"), "bpb"))
    if first is None or first[1] is score:
        return Cell(value)
    other, before = first
    change = relative_change(before.items("nats"), score.items("nats"))
    where = (of_run(run.name, score.source("nats")), of_run(other.name, before.source("nats")))
    moved = Traced(change.value, where, "paired change", "small change")
    if not (math.isfinite(change.low) and math.isfinite(change.high)):
        return Cell(value, moved=moved)
    low = Traced(change.low, where, "paired low", "small change")
    high = Traced(change.high, where, "paired high", "small change")
    # Fewer bits are better: a whole interval on one side of nothing is a difference.
    tone = "good" if change.high < -_ROUNDING else "bad" if change.low > _ROUNDING else ""
    return Cell(value, moved=moved, moved_low=low, moved_high=high, tone=tone)


def _is_whole(score: Record) -> bool:
    """Tell whether every document has a size, and nats that can be divided by."""
    nats = score.items("nats")
    return 0 < len(nats) == len(score.items("bytes")) and min(nats) > 0


def _newest(run: Run, domain: str) -> Record | None:
    own = own_scores(run, domain)
    return own[-1] if own else None


def _asked(one: SkillScore) -> tuple[str | int | None, ...]:
    """Return what two scores of a task must share for their figures to be compared."""
    score = one.score
    return score.items_sha256, score.prompts_sha256, score.version, score.max_new_tokens


def _figure(run: Run, figure: Figure | None) -> Cell:
    if figure is None:
        return Cell(None)
    value, low, high = (_of(run, one) for one in (figure.value, figure.low, figure.high))
    return Cell(value, low, high)


def _best(cells: Sequence[Cell], *, lowest: bool) -> tuple[Cell, ...]:
    """Mark the best of at least two values that are not all the same."""
    numbers = [cell.value.number for cell in cells if cell.value is not None]
    if len(numbers) < 2 or len(set(numbers)) == 1:
        return tuple(cells)
    best = min(numbers) if lowest else max(numbers)
    return tuple(
        replace(cell, is_best=cell.value is not None and cell.value.number == best)
        for cell in cells
    )


def _settings(run: Run) -> Iterator[tuple[str, Traced]]:
    """Yield (place, value) of every single value of config.yaml that is set; stages by name."""
    if run.config is None:
        return
    for path in _leaves(run.config.values):
        value = run.config.find(*(key for key, _ in path))
        if value is not None:
            shown = str(value).lower() if isinstance(value, bool) else value
            source = run.config.source(*(key for key, _ in path))
            yield ".".join(name for _, name in path), Traced(shown, (source,))


def _leaves(value: object) -> Iterator[tuple[tuple[Key, str], ...]]:
    """Yield the path of every single value: each key, and how people call it."""
    if isinstance(value, dict):
        inside: list[tuple[Key, str, object]] = [(k, str(k), item) for k, item in value.items()]
    elif isinstance(value, list):
        inside = [(place, _called(item, place), item) for place, item in enumerate(value)]
    else:
        yield ()
        return
    for key, name, item in inside:
        yield from (((key, name), *rest) for rest in _leaves(item))


def _called(item: object, place: int) -> str:
    return str(item["name"]) if isinstance(item, dict) and "name" in item else str(place)
