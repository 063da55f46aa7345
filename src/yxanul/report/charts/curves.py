"""The charts over tokens: loss and learning rate, bits per byte, speed and sequence length."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from yxanul.report.charts.figure_tables import (
    Column,
    FigureTable,
    curves_of_rows,
    curves_of_scores,
    table_of,
)
from yxanul.report.charts.figures import (
    ABANDONED,
    GLYPHS,
    MOST_POINTS,
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
from yxanul.report.reading.course import (
    Branch,
    borders,
    branches,
    last_token,
    like_scores,
    placed_scores,
    score_domains,
    segments,
    stage_indices,
    stage_names,
)
from yxanul.report.reading.gather import Run
from yxanul.report.reading.records import Record
from yxanul.report.reading.traced import Story, Traced

_RATES = (
    ("learning_rate", "matrices", "solid"),
    ("embedding_learning_rate", "embedding", "dash"),
    ("norm_learning_rate", "norms", "dot"),
)
_LOSS = (
    Column("loss", "loss"),
    *(Column(key, f"learning rate of {group}") for key, group, _ in _RATES),
)
_SPEED = (Column("tokens_per_s", "tokens/s", "whole"), Column("seq_len", "sequence length"))
_BPB = (Column("bpb", "bits per byte", "bpb"),)

Placed = tuple[Record, tuple[str, int]]
"""A score, and where and what its tokens are."""


def loss_chart(run: Run) -> Chart:
    """Draw loss above learning rate, a colour per stage, abandoned attempts in grey."""
    data = _stage_curves(run, "loss", unit="nats per token", yaxis="y")
    for column, group, dash in _RATES:
        data += _stage_curves(run, column, unit=f"learning rate of {group}", yaxis="y2", dash=dash)
    return Chart(
        name="loss",
        title="Loss and learning rate",
        caption="Above, the training loss of each step in nats per token, lower is better; it "
        "jumps where a stage brings new text. Below, the learning rate of matrices (solid), "
        "embedding (dashed) and norms (dotted)." + _thinned(run),
        data=data,
        layout=layout(
            460,
            borders(run),
            xaxis=token_axis(last_token(run), anchor="y2"),
            yaxis=axis(domain=[0.42, 1.0]),
            yaxis2=axis(domain=[0.0, 0.33], rangemode="tozero"),
            annotations=[panel_title("loss", 1.0), panel_title("learning rate", 0.33)],
        ),
        legend=_stage_legend(run),
        figures=_stage_figures(run, _LOSS),
    )


def speed_chart(run: Run) -> Chart:
    """Draw tokens per second above sequence length, a colour per stage."""
    data = _stage_curves(run, "tokens_per_s", unit="tokens/s", yaxis="y")
    steps = _stage_curves(run, "seq_len", unit="tokens per sequence", yaxis="y2")
    for trace in steps:
        trace["line"]["shape"] = "hv"
    return Chart(
        name="speed",
        title="Speed and sequence length",
        caption="Above, tokens trained per second, higher is better; below, how many tokens a "
        "sequence had. Longer sequences cost more attention per token." + _thinned(run),
        data=[*data, *steps],
        layout=layout(
            400,
            borders(run),
            xaxis=token_axis(last_token(run), anchor="y2"),
            yaxis=axis(domain=[0.42, 1.0], rangemode="tozero"),
            yaxis2=axis(domain=[0.0, 0.31], rangemode="tozero"),
            annotations=[panel_title("tokens/s", 1.0), panel_title("sequence length", 0.31)],
        ),
        legend=_stage_legend(run),
        figures=_stage_figures(run, _SPEED),
    )


def bpb_chart(run: Run) -> Chart | None:
    """Draw the bits per byte of every domain over tokens; None when nothing was scored."""
    domains = score_domains(run)
    placed = {domain: _branches(run, domain) for domain in domains}
    drawn = sum(len(branch.points) for found in placed.values() for branch in found)
    if not drawn:
        return None
    data: list[JsonObject] = []
    for index, domain in enumerate(domains):
        own, *left = placed[domain]
        # The run's own curve lies above the others.
        data += [_domain_curve(domain, branch, index=index) for branch in (*left, own)]
    return Chart(
        name="bpb",
        title="Bits per byte of held-out documents",
        caption="Bits that the model needs for one byte of documents it never trained on, per "
        "domain; lower is better. A line that rises after its own stage is forgetting. Dotted "
        "lines and small numbers mark where a stage begins." + _not_drawn(run, drawn),
        data=data,
        layout=layout(
            430,
            borders(run),
            xaxis=token_axis(last_token(run)),
            yaxis=axis(rangemode="tozero"),
            annotations=[panel_title("bits per byte", 1.0)],
        ),
        legend=(
            *(
                LegendEntry(colour(i), GLYPHS[i % len(GLYPHS)], domain)
                for i, domain in enumerate(_traced_domains(run))
            ),
            *_abandoned_legend(run),
        ),
        figures=_domain_figures(placed.values()),
    )


def _thinned(run: Run) -> str:
    if all(len(piece.rows) <= MOST_POINTS for piece in segments(run)):
        return ""
    return " Of so many rows only the lowest and the highest of each short stretch are drawn."


def _not_drawn(run: Run, drawn: int) -> str:
    like = sum(len(like_scores(run, domain)) for domain in score_domains(run))
    whys = (
        ("no row of metrics.jsonl tells their tokens", like - drawn),
        ("their documents are not those of the newest score", len(run.scores) - like),
    )
    return "".join(f" Not drawn, since {why}: {n} of the scores." for why, n in whys if n)


def _stage_curves(
    run: Run, column: str, *, unit: str, yaxis: str, dash: str = "solid"
) -> list[JsonObject]:
    indices = stage_indices(run)
    traces = []
    for piece in segments(run):
        if all(row.find(column) is None for row in piece.rows):
            continue
        line: dict[str, Any] = {"color": colour(indices[piece.stage]), "width": 1.6, "dash": dash}
        name = label(piece.stage)
        if not piece.belongs:
            line |= {"color": ABANDONED, "dash": "dash", "width": 1.2}
            name += f", abandoned attempt {piece.attempt}"
        traces.append(curve(piece.rows, column, unit=unit, name=name, line=line, yaxis=yaxis))
    return traces


def _stage_figures(run: Run, columns: tuple[Column, ...]) -> FigureTable:
    curves = []
    for piece in segments(run):
        first = piece.rows[0]
        name = _told(first, first.text("stage"), belongs=piece.belongs)
        curves.append((name, curves_of_rows(piece.rows, columns)))
    return table_of(curves)


def _branches(run: Run, domain: str) -> list[Branch[Placed]]:
    def place(point: Placed) -> tuple[int | None, int]:
        score, (_, tokens) = point
        return None if run.belongs(score) else score.need_count("attempt"), tokens

    return branches(placed_scores(run, like_scores(run, domain)), place=place)


def _domain_figures(placed: Iterable[list[Branch[Placed]]]) -> FigureTable:
    """Tell each domain's scores, those of every abandoned attempt by themselves."""
    curves = []
    for branch in (branch for found in placed for branch in found if branch.points):
        first = branch.points[0][0]
        name = _told(first, first.text("domain"), belongs=branch.attempt is None)
        curves.append((name, curves_of_scores(branch.points, _BPB)))
    return table_of(curves)


def _told(record: Record, name: Traced | None, *, belongs: bool) -> Story:
    """Return a curve's name as its chart says it."""
    attempt = record.number("attempt")
    if belongs or attempt is None:
        return (name or "",)
    return (name or "", ", abandoned attempt ", attempt)


def _domain_curve(domain: str, branch: Branch[Placed], *, index: int) -> JsonObject:
    own = branch.attempt is None
    return score_curve(
        # From the last score that both share, so that one sees where they part.
        (*branch.shared, *branch.points),
        name=label(domain) + ("" if own else f", abandoned attempt {branch.attempt}"),
        line={
            "color": colour(index) if own else ABANDONED,
            "width": 2 if own else 1.2,
            "dash": "solid" if own else "dash",
        },
        marker={"symbol": SYMBOLS[index % len(SYMBOLS)], "size": 8 if own else 6},
    )


def _traced_domains(run: Run) -> list[Any]:
    first = {s.need_text("domain"): s.text("domain") for s in reversed(run.scores)}
    return [first[domain] for domain in score_domains(run)]


def _stage_legend(run: Run) -> tuple[LegendEntry, ...]:
    trained = {row.find("stage") for row in run.metrics}
    entries = [
        LegendEntry(colour(index), "━", name)
        for index, name in enumerate(stage_names(run))
        if name.value in trained
    ]
    return (*entries, *_abandoned_legend(run))


def _abandoned_legend(run: Run) -> tuple[LegendEntry, ...]:
    if all(run.belongs(row) for row in run.metrics):
        return ()
    return (LegendEntry(ABANDONED, "┅", "an attempt left behind"),)
