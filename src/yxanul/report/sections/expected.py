"""Promised, published, realistic, reached: the facts of `yxanul.plan.expected` beside this run."""

from __future__ import annotations

import math
from dataclasses import dataclass

from yxanul.config.evaluation import TASKS
from yxanul.curriculum.conditions import other_texts
from yxanul.plan.expected import ESTIMATED, EXPECTATIONS, Expectation
from yxanul.report.reading.course import own_scores, score_domains
from yxanul.report.reading.gather import Run
from yxanul.report.reading.records import Record
from yxanul.report.reading.skills import (
    Figure,
    headline,
    kin_of,
    moment_title,
    scores_by_task,
    with_evaluations,
)
from yxanul.report.reading.traced import Cited, Story, Traced

PROMISE = "the predecessor's public README of 21 August 2025"


@dataclass(frozen=True)
class Perplexity:
    """One held-out domain: perplexity per token, and bits per byte, which need no vocabulary."""

    domain: Traced | None
    perplexity: Traced
    bpb: Traced | None


@dataclass(frozen=True)
class Reached:
    """What this run reached in a task, and on which items with how many examples."""

    figure: Figure
    items: Traced
    shots: Traced | None
    origin: Traced | None
    """Where the items came from."""
    other_texts: str
    """What is to be said of items of other texts than the hub's; else empty."""
    title: Story
    kin: tuple[Traced, ...]
    """Training sources that are made from the task's own problems."""


@dataclass(frozen=True)
class Row:
    """One benchmark."""

    name: Cited
    reference: Cited | None
    promised: Cited
    realistic: Cited
    perplexities: tuple[Perplexity, ...]
    reached: Reached | None
    why_not: Traced | None
    """Why this run has no figure, where it says so."""
    verdict: str
    tone: str
    why: Cited


def expected_rows(run: Run) -> tuple[Row, ...]:
    """Return the five benchmarks; what this run did not score says so.

    Also what `yxanul evaluate` scored: of the newest checkpoint that has what stands for the task.
    """
    scored = with_evaluations(run)
    return tuple(_row(scored, one) for one in EXPECTATIONS)


def _row(run: Run, one: Expectation) -> Row:
    reached = _reached(run, one.task) if one.task is not None else None
    reference = None
    if one.reference is not None:
        told = f"{one.reference.value:.1f} % ({one.reference.tokens})"
        reference = Cited(told, one.reference.source)
    anchors = f"; public: {one.anchors}" if one.public else ""
    verdict, tone = _verdict(one, reached)
    return Row(
        name=Cited(one.name, f"promised as “{one.claim}”"),
        reference=reference,
        promised=Cited(one.promised_text, PROMISE),
        realistic=Cited(one.realistic, ESTIMATED + anchors),
        perplexities=_perplexities(run) if one.task is None else (),
        reached=reached,
        why_not=_why_not(run, one.task) if one.task is not None and reached is None else None,
        verdict=verdict,
        tone=tone,
        why=Cited(one.why, "; ".join(dict.fromkeys(p.source for p in one.public)) or PROMISE),
    )


def _verdict(one: Expectation, reached: Reached | None) -> tuple[str, str]:
    """Return how the promise stands; only a run whose interval lies above it has kept it."""
    low = reached.figure.low if reached is not None else None
    if low is not None and 100 * low.number >= one.promised:
        return "reached", "good"
    return one.verdict, "quiet" if one.task is None else "warn"


def _reached(run: Run, task: str) -> Reached | None:
    found = headline(run, task)
    if found is None:
        return None
    score, figure = found
    return Reached(
        figure,
        score.items(),
        shots=score.record.number("shots"),
        origin=score.record.text("origin"),
        other_texts=other_texts(score.score),
        title=moment_title(run, score),
        kin=kin_of(run, score),
    )


def _why_not(run: Run, task: str) -> Traced | None:
    """Return why the newest score of a task lacks what stands for it."""
    scores = scores_by_task(run).get(task)
    why = scores[-1].record.text("not_run", TASKS[task].headline) if scores else None
    return why.shown_as("sentence") if why is not None else None


def _perplexities(run: Run) -> tuple[Perplexity, ...]:
    found = []
    for domain in score_domains(run):
        own = own_scores(run, domain)
        value = _perplexity(own[-1]) if own else None
        if value is not None:
            bpb = own[-1].number("bpb")
            found.append(Perplexity(own[-1].text("domain"), value, bpb))
    return tuple(found)


def _perplexity(score: Record) -> Traced | None:
    nats, tokens = score.items("nats"), score.items("tokens")
    if not nats or not sum(tokens):
        return None
    where = (score.source("nats"), score.source("tokens"))
    return Traced(math.exp(math.fsum(nats) / sum(tokens)), where, "perplexity", "perplexity")
