"""Curves of several runs over each other: a colour per run, the run's own branch alone."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from yxanul.report.charts.figure_tables import (
    Column,
    Curves,
    FigureTable,
    curves_of_rows,
    curves_of_scores,
    table_of,
)
from yxanul.report.charts.figures import (
    SYMBOLS,
    Chart,
    JsonObject,
    LegendEntry,
    axis,
    colour,
    curve,
    label,
    layout,
    panel_title,
    score_curve,
    token_axis,
)
from yxanul.report.reading.course import last_token, own_scores, placed_scores, score_domains
from yxanul.report.reading.gather import Run
from yxanul.report.reading.traced import Cited, of_run

_PANEL_HEIGHT = 210


def loss_of_runs(runs: Sequence[Run]) -> Chart:
    """Draw the training loss of every run over its tokens."""
    return Chart(
        name="loss",
        title="Training loss",
        caption="The loss of each step in nats per token, lower is better, as far as the rows of "
        "each run's own branch go. Runs on other text or with another vocabulary have other "
        "losses: compare bits per byte instead.",
        data=[_of_run(run, index) for index, run in enumerate(runs)],
        layout=layout(
            420,
            (),
            xaxis=token_axis(max(map(last_token, runs))),
            yaxis=axis(),
            annotations=[panel_title("loss", 1.0)],
        ),
        legend=run_legend(runs),
        figures=table_of([(_name(run), _loss_figures(run)) for run in runs]),
    )


def domain_panels(runs: Sequence[Run]) -> tuple[Chart, ...]:
    """Draw the bits per byte of every domain, a panel each with a line per run."""
    names = dict.fromkeys(domain for run in runs for domain in score_domains(run))
    panels = []
    for number, domain in enumerate(names):
        data = [
            line
            for index, run in enumerate(runs)
            if (line := _domain_line(run, domain, index=index)) is not None
        ]
        if data:
            panels.append(
                Chart(
                    name=f"domain-{number}",
                    title=f"Bits per byte of {domain}",
                    caption="bits per byte",
                    data=data,
                    layout=layout(
                        _PANEL_HEIGHT,
                        (),
                        xaxis=token_axis(max(map(last_token, runs))),
                        yaxis=axis(),
                    ),
                    legend=(LegendEntry(colour(0), "", domain),),
                    figures=_domain_figures(runs, domain),
                )
            )
    return tuple(panels)


def run_legend(runs: Sequence[Run]) -> tuple[LegendEntry, ...]:
    """Return a line for each run."""
    return tuple(LegendEntry(colour(index), "━", run.name) for index, run in enumerate(runs))


def _of_run(run: Run, index: int) -> JsonObject:
    rows = [row for row in run.metrics if run.belongs(row)]
    line = {"color": colour(index), "width": 1.4}
    found = curve(rows, "loss", unit="nats per token", name=label(run.name), line=line)
    return _named(found, run)


def _domain_line(run: Run, domain: str, *, index: int) -> JsonObject | None:
    points = placed_scores(run, own_scores(run, domain))
    if not points:
        return None
    marker = {"symbol": SYMBOLS[index % len(SYMBOLS)], "size": 7}
    line = {"color": colour(index), "width": 2}
    found = score_curve(points, name=label(run.name), line=line, marker=marker)
    found["meta"]["x"] = [of_run(run.name, source) for source in found["meta"]["x"]]
    return _named(found, run)


def _loss_figures(run: Run) -> Curves:
    rows = [row for row in run.metrics if run.belongs(row)]
    return curves_of_rows(rows, (Column("loss", "loss"),), of=partial(of_run, run.name))


def _domain_figures(runs: Sequence[Run], domain: str) -> FigureTable:
    column, curves = (Column("bpb", "bits per byte", "bpb"),), []
    for run in runs:
        if points := placed_scores(run, own_scores(run, domain)):
            of = partial(of_run, run.name)
            curves.append((_name(run), curves_of_scores(points, column, of=of)))
    return table_of(curves)


def _name(run: Run) -> Cited:
    return Cited(run.name, "the run's folder")


def _named(found: JsonObject, run: Run) -> JsonObject:
    """Return a curve whose points say which run they are of."""
    return {**found, "customdata": [f"{run.name}/{place}" for place in found["customdata"]]}
