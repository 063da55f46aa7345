"""Small multiples: a panel per task and measure over tokens, with intervals and chance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from yxanul.config.evaluation import GOLD, TASKS
from yxanul.report.charts.figure_tables import (
    Column,
    Curves,
    FigureTable,
    curve_of_points,
    table_of,
)
from yxanul.report.charts.figures import (
    ABANDONED,
    Chart,
    JsonObject,
    LegendEntry,
    axis,
    colour,
    label,
    layout,
    share_axis,
    token_axis,
)
from yxanul.report.reading.course import Branch, borders, branches, last_token, tokens_at
from yxanul.report.reading.gather import Run
from yxanul.report.reading.measures import SkillScore
from yxanul.report.reading.skills import CHANCES, key_of
from yxanul.report.reading.traced import Story, Traced
from yxanul.report.reading.words import show

_HEIGHT = 210


@dataclass(frozen=True)
class _Point:
    """A figure and where it stands over tokens."""

    one: SkillScore
    value: Traced
    bounds: tuple[Traced, Traced] | None
    tokens: int
    source: str
    """Address of `tokens`."""
    belongs: bool

    @property
    def seen(self) -> Traced:
        """The tokens with their address; before the first step the file's name tells that."""
        return Traced(self.tokens, (self.source,), "named" if self.one.step == 0 else "")


def skill_charts(run: Run) -> tuple[Chart, ...]:
    """Return a panel per task for what stands for it and what it is judged by.

    A score that no row of metrics.jsonl places is not drawn.
    """
    charts: list[Chart] = []
    for number, task in enumerate(dict.fromkeys(one.task for one in run.skills)):
        scores = [one for one in run.skills if one.task == task]
        for measure in _drawn(task, scores):
            points = _points(run, scores, measure=measure)
            if any(point.belongs for point in points):
                name = f"skill-{len(charts)}"
                charts.append(_panel(run, points, name=name, measure=measure, number=number))
    return tuple(charts)


def _drawn(task: str, scores: list[SkillScore]) -> list[str]:
    facts = TASKS.get(task)
    taken = dict.fromkeys(measure for one in scores for measure in one.measures)
    wanted = list(taken) if facts is None else [facts.headline, facts.gates_by]
    return [measure for measure in dict.fromkeys(wanted) if measure in taken]


def _points(run: Run, scores: list[SkillScore], *, measure: str) -> list[_Point]:
    points = []
    for one in scores:
        value = one.value(measure)
        place = tokens_at(run, one.step, attempt=one.attempt, start=one.record.source())
        if value is not None and place is not None:
            belongs = run.has(one.step, attempt=one.attempt)
            bounds = one.interval(measure)
            points.append(_Point(one, value, bounds, place[1], place[0], belongs))
    return points


def _panel(run: Run, points: list[_Point], *, name: str, measure: str, number: int) -> Chart:
    found = branches(points, place=_place)
    own, *left = found
    # The run's own curve lies above the others.
    data = [_curve(branch, measure, tint=ABANDONED) for branch in left]
    data.append(_curve(own, measure, tint=colour(number)))
    task = own.points[0].one.task
    chance = CHANCES.get(task) if measure != GOLD else None
    is_share = all(point.value.kind == "share" for point in points)
    tops = [bound[1].number for p in points if (bound := p.bounds)]
    highest = max([*tops, *(p.value.number for p in points), chance[0] if chance else 0.0])
    drawn = layout(
        _HEIGHT,
        borders(run),
        xaxis=token_axis(last_token(run)),
        yaxis=share_axis(highest) if is_share else axis(rangemode="tozero"),
    )
    if chance is not None:
        drawn["shapes"].append(_level(chance[0]))
    better = "lower is better" if measure == GOLD else "higher is better"
    guessing = "; the dotted line is guessing" if chance is not None else ""
    names = (own.points[-1].one.record.text("task") or task, key_of(own.points[-1].one, measure))
    legend = tuple(LegendEntry(colour(number), "●", one) for one in names)
    figures = _figures(found, measure=measure)
    return Chart(name, f"{task} {measure}", better + guessing, data, drawn, legend, figures)


def _place(point: _Point) -> tuple[int | None, int]:
    return None if point.belongs else point.one.attempt, point.tokens


def _figures(found: Sequence[Branch[_Point]], *, measure: str) -> FigureTable:
    """Tell the points of the run, then those of each attempt that it left behind."""
    column = Column(measure, "value")
    curves: list[tuple[Story, Curves]] = []
    for branch in found:
        name: Story = ("the run",)
        if branch.attempt is not None:
            # The attempt stands in the file's name, as the step does.
            where = (branch.points[0].one.record.source(),)
            name = ("abandoned attempt ", Traced(branch.attempt, where, "attempt"))
        told = [(point.seen, point.value) for point in branch.points]
        curves.append((name, curve_of_points(told, column)))
    return table_of(curves)


def _curve(branch: Branch[_Point], measure: str, *, tint: str) -> JsonObject:
    own = branch.attempt is None
    # From the last score that both share, so that one sees where they part.
    points = (*branch.shared, *branch.points)
    left = "" if own else f", abandoned attempt {branch.attempt}"
    trace: JsonObject = {
        "type": "scatter",
        "mode": "lines+markers",
        "name": label(points[0].one.task) + left,
        "x": [point.tokens for point in points],
        "y": [point.value.number for point in points],
        "text": [show(point.value) for point in points],
        "customdata": [point.one.record.file for point in points],
        "meta": {"x": [point.source for point in points], "y": measure},
        "hovertemplate": f"%{{text}} {label(measure)}<br>%{{x:,}} tokens<br>%{{customdata}}"
        "<extra>%{fullData.name}</extra>",
        "line": {"color": tint, "width": 2 if own else 1.2, "dash": "solid" if own else "dash"},
        "marker": {"symbol": "circle", "size": 8 if own else 6},
    }
    ends = [(p.value.number, p.bounds) for p in points]
    if all(bounds is not None for _, bounds in ends):
        trace["error_y"] = {
            "type": "data",
            "symmetric": False,
            "array": [bounds[1].number - value for value, bounds in ends if bounds],
            "arrayminus": [value - bounds[0].number for value, bounds in ends if bounds],
            "color": tint,
            "thickness": 1.2,
            "width": 3,
        }
    return trace


def _level(share: float) -> dict[str, Any]:
    return {
        "type": "line",
        "xref": "paper",
        "yref": "y",
        "x0": 0,
        "x1": 1,
        "y0": share,
        "y1": share,
        "layer": "below",
        "line": {"color": "@muted", "width": 1, "dash": "dot"},
    }
