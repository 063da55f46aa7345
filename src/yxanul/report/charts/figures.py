"""The parts that all charts share: plain plotly.js JSON whose colours are names of the page's own.

A colour is written `@c0`, `@ink`, `@line`, `@quiet`: the page's script puts the values of its style
sheet in, so that a chart follows light and dark. Every point carries the place that it comes from.
"""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from yxanul.report.charts.figure_tables import FigureTable
from yxanul.report.reading.course import Border
from yxanul.report.reading.records import Record
from yxanul.report.reading.traced import Traced
from yxanul.units import format_count

MOST_POINTS = 1500
"""Points of one curve piece; 1,500 are more than a screen has columns for it."""

COLOURS = 7
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "cross", "x", "star")
GLYPHS = ("●", "■", "◆", "▲", "✚", "✖", "★")
ABANDONED = "@quiet"

JsonObject = dict[str, Any]


@dataclass(frozen=True)
class LegendEntry:
    """A line of a chart's legend: its colour's name, its sign, and what it stands for."""

    colour: str
    sign: str
    name: Traced | str


@dataclass(frozen=True)
class Chart:
    """A chart: its name, plotly.js JSON, legend, and the words that explain it."""

    name: str
    title: str
    caption: str
    data: list[JsonObject]
    layout: JsonObject
    legend: tuple[LegendEntry, ...] = ()
    figures: FigureTable | None = None
    """What the chart draws, in figures."""


def colour(index: int) -> str:
    """Return the name of a colour that colour-blind people can tell from its neighbours."""
    return f"@c{index % COLOURS}"


def curve(rows: Sequence[Record], column: str, *, unit: str, **style: Any) -> JsonObject:
    """Return a line of a metric column over tokens_seen; a missing value is a gap."""
    points = thin([(row, row.plain_number(column)) for row in rows])
    # `meta` says for every chart how its points are read back from their rows.
    return {
        "type": "scatter",
        "mode": "lines",
        "x": [row.need_count("tokens_seen") for row, _ in points],
        "y": [value for _, value in points],
        "customdata": [f"{row.file}:{row.line}" for row, _ in points],
        "meta": {"x": "tokens_seen", "y": column},
        "hovertemplate": f"%{{y:,.5~g}} {unit}<br>%{{x:,}} tokens<br>%{{customdata}}"
        "<extra>%{fullData.name}</extra>",
        **style,
    }


def score_curve(placed: Sequence[tuple[Record, tuple[str, int]]], **style: Any) -> JsonObject:
    """Return a line of bits per byte through scores, each with where and what its tokens are."""
    return {
        "type": "scatter",
        "mode": "lines+markers",
        "x": [tokens for _, (_, tokens) in placed],
        "y": [score.find("bpb") for score, _ in placed],
        "customdata": [score.file for score, _ in placed],
        "meta": {"x": [source for _, (source, _) in placed], "y": "bpb"},
        "hovertemplate": "%{y:.4f} bits per byte<br>%{x:,} tokens<br>%{customdata}"
        "<extra>%{fullData.name}</extra>",
        **style,
    }


def thin(
    points: list[tuple[Record, float | None]], most: int = MOST_POINTS
) -> list[tuple[Record, float | None]]:
    """Keep the lowest and the highest point of every bucket, so that no spike is lost."""
    if len(points) <= most:
        return points
    size = math.ceil(2 * len(points) / (most - 2))
    kept = {0, len(points) - 1}
    for start in range(0, len(points), size):
        numbers = range(start, min(start + size, len(points)))
        values = {i: value for i in numbers if (value := points[i][1]) is not None}
        if values:
            kept |= {min(values, key=values.__getitem__), max(values, key=values.__getitem__)}
    return [points[i] for i in sorted(kept)]


def label(text: str) -> str:
    """Return a name of the run as plotly takes it: its own small HTML must not be heard."""
    return html.escape(text, quote=False)


def axis(**more: Any) -> JsonObject:
    """Return the settings that all axes share."""
    return {"gridcolor": "@line", "linecolor": "@line", "zeroline": False, **more}


def token_axis(last: int, **more: Any) -> JsonObject:
    """Return an x axis from 0 to `last` tokens, marked in round numbers with K, M and B.

    plotly's own marks would say k, M and G.
    """
    step = _round_step(max(last, 1) / 5)
    marks = [step * i for i in range(math.floor(last / step) + 1)]
    texts = [format_count(mark) for mark in marks]
    edge = 0.02 * max(last, 1)
    return axis(
        range=[-edge, last + 2 * edge],
        tickvals=marks,
        ticktext=texts,
        showgrid=False,
        title={"text": "tokens seen", "font": {"size": 12, "color": "@muted"}, "standoff": 6},
        **more,
    )


def share_axis(highest: float, **more: Any) -> JsonObject:
    """Return a y axis from 0 for shares of one, marked as the page writes them: "20 %"."""
    step = _round_step(max(highest, 0.01) / 4)
    marks = [step * i for i in range(math.ceil(highest / step) + 1)]
    texts = [f"{100 * mark:.3g} %" for mark in marks]
    top = max(marks[-1], step)
    return axis(range=[-0.03 * top, 1.03 * top], tickvals=marks, ticktext=texts, **more)


def layout(height: int, borders: Sequence[Border], **more: Any) -> JsonObject:
    """Return the layout that all charts share; `borders` are marked by their stage's number."""
    notes = [*more.pop("annotations", ()), *map(_number, borders)]
    return {
        "height": height,
        "margin": {"l": 44, "r": 8, "t": 30, "b": 46},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"color": "@ink", "size": 12, "family": "system-ui, sans-serif"},
        "hoverlabel": {"bgcolor": "@card", "bordercolor": "@line", "font": {"color": "@ink"}},
        "showlegend": False,
        "hovermode": "closest",
        "dragmode": False,
        "annotations": notes,
        "shapes": [_line(border) for border in borders],
        **more,
    }


def panel_title(text: str, y: float) -> JsonObject:
    """Return the words above a panel, at `y` of the chart's height."""
    return {
        "text": text,
        "xref": "paper",
        "yref": "paper",
        "x": 0,
        "y": y,
        "xanchor": "left",
        "yanchor": "bottom",
        "showarrow": False,
        "font": {"color": "@muted", "size": 12},
    }


def _line(border: Border) -> JsonObject:
    return {
        "type": "line",
        "xref": "x",
        "yref": "paper",
        "x0": border.tokens,
        "x1": border.tokens,
        "y0": 0,
        "y1": 1,
        "layer": "below",
        "line": {"color": "@border", "width": 1, "dash": "dot"},
    }


def _number(border: Border) -> JsonObject:
    return {
        "text": f"<b>{border.index + 1}</b>",
        "xref": "x",
        "yref": "paper",
        "x": border.tokens,
        "y": 1,
        "xanchor": "left",
        "yanchor": "top",
        "xshift": 1,
        "showarrow": False,
        "font": {"color": "@muted", "size": 12},
    }


def _round_step(size: float) -> float:
    """Return the smallest of 1, 2, 2.5, 5 times a power of ten that is at least `size`."""
    power = 10.0 ** math.floor(math.log10(size))
    return next(step * power for step in (1, 2, 2.5, 5, 10) if step * power >= size * 0.999)
