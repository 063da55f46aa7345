"""The gates' verdicts as cards: every attempt at every stage, with its checks and intervals."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timezone

from yxanul.curriculum.checks.kinds import NAMES, kinds
from yxanul.report.reading.course import stage_names
from yxanul.report.reading.gather import Run
from yxanul.report.reading.records import Record
from yxanul.report.reading.traced import Traced
from yxanul.report.reading.words import tone
from yxanul.runfolder.verdicts import PLATEAU

SKILL_CHECKS = ("G4", "G5", "G6", "G7", "G8")
"""Checks that older runs do not have, and whose units need a word."""
_WIDTH = 100.0


@dataclass(frozen=True)
class Interval:
    """Where value, bounds, margin and zero stand on a bar, in percent of its width."""

    low: float
    high: float
    value: float
    zero: float
    margin: float | None


@dataclass(frozen=True)
class Check:
    """A row of a card; `kind` says how its figures are written (yxanul.report.reading.words)."""

    id: Traced | None
    name: str
    subject: Traced | None
    value: Traced | None
    low: Traced | None
    high: Traced | None
    margin: Traced | None
    n: Traced | None
    mde: Traced | None
    result: Traced | None
    tone: str
    action: Traced | None
    why: Traced | None
    interval: Interval | None
    kind: str
    size_kind: str
    """The same without a sign, for the smallest change that could be shown."""
    noise: Traced | None
    """Standard deviation of training, between seeds, that widened the interval."""


@dataclass(frozen=True)
class Override:
    """What a person decided instead of the gate."""

    verdict: Traced | None
    tone: str
    by: Traced | None
    at: Traced | None
    reason: Traced | None


@dataclass(frozen=True)
class Card:
    """What a gate said about one attempt at a stage; `verdict` is None before it has spoken.

    `asks_for_decay`: not the gate itself, but whether a stage under `wsd` may begin its decay.
    """

    stage: Traced | None
    attempt: Traced | None
    step: Traced | None
    verdict: Traced | None
    tone: str
    why: Traced | None
    belongs: bool
    checks: tuple[Check, ...]
    gate_sha256: Traced | None
    asks_for_decay: bool
    overrides: tuple[Override, ...]
    """In the order in which they were recorded; the verdict above stays what the gate said."""


def cards(run: Run) -> tuple[Card, ...]:
    """Return the cards in the order of the stages, and within a stage as they were written."""
    order = {str(name.value): index for index, name in enumerate(stage_names(run))}
    asked: dict[tuple[str, int, int], list[Record]] = {}
    for row in run.checks:
        asked.setdefault(_place(row), []).append(row)
    spoken = (*run.verdicts, *run.plateaus)
    built = [_card(run, row, checks=asked.pop(_place(row), [])) for row in spoken]
    # Checks whose verdict is not written yet, or was lost with the process.
    built += [_card(run, rows[0], checks=rows, spoken=False) for rows in asked.values()]

    def place(pair: tuple[Record, Card]) -> tuple[int, int]:
        row, _ = pair
        return order[row.need_text("stage")], row.line or 0

    return tuple(card for _, card in sorted(built, key=place))


def _place(row: Record) -> tuple[str, int, int]:
    return row.need_text("stage"), row.need_count("attempt"), row.need_count("step")


def _card(
    run: Run, row: Record, *, checks: list[Record], spoken: bool = True
) -> tuple[Record, Card]:
    verdict = row.text("verdict") if spoken else None
    card = Card(
        stage=row.text("stage"),
        attempt=row.number("attempt"),
        step=row.number("step"),
        verdict=verdict,
        tone=tone(verdict),
        why=row.text("why") if spoken else None,
        belongs=run.belongs(row),
        checks=tuple(_check(check) for check in checks),
        gate_sha256=row.text("gate_sha256") if spoken else None,
        asks_for_decay=row.find("row") == PLATEAU,
        overrides=tuple(_override(o) for o in run.overrides if _place(o) == _place(row)),
    )
    return row, card


def _override(row: Record) -> Override:
    verdict = row.text("verdict")
    return Override(verdict, tone(verdict), row.text("by"), _moment(row), row.text("reason"))


def _moment(row: Record) -> Traced | None:
    """Return when a row was written: a date where it stands as seconds, else as it stands."""
    if isinstance(row.find("at"), str):
        return row.text("at")
    seconds = row.number("at")
    if seconds is None:
        return None
    moment = datetime.fromtimestamp(seconds.number, tz=timezone.utc)
    return Traced(f"{moment:%Y-%m-%d %H:%M} UTC", seconds.sources, "date")


def _check(row: Record) -> Check:
    identity, subject, result = row.text("id"), row.text("subject"), row.text("result")
    name = str(identity.value) if identity is not None else ""
    kind, size_kind = kinds(name, str(subject.value) if subject is not None else "")
    return Check(
        id=identity,
        name=NAMES.get(name, ""),
        subject=subject,
        value=row.number("value"),
        low=row.number("low"),
        high=row.number("high"),
        margin=row.number("margin"),
        n=row.number("n"),
        mde=row.number("mde"),
        result=result,
        tone=tone(result),
        action=row.text("action"),
        why=row.text("why"),
        interval=_interval(row),
        kind=kind,
        size_kind=size_kind,
        noise=row.number("noise"),
    )


def _interval(row: Record) -> Interval | None:
    """Place a check's figures on its own scale; None without a value.

    A bound that is not there is drawn at the value: the bar then shows no interval on that side.
    """
    value, low, high = row.number("value"), row.number("low"), row.number("high")
    margin = row.number("margin")
    if value is None or (low is None and high is None):
        return None
    at = value.number
    bounds = (low.number if low else at, high.number if high else at)
    marks = [at, *bounds, 0.0, *([margin.number] if margin else [])]
    first, last = min(marks), max(marks)
    space = 0.08 * (last - first or 1.0)

    def place(number: float) -> float:
        share = (number - first + space) / (last - first + 2 * space)
        return round(_WIDTH * share, 2)

    return Interval(
        low=place(bounds[0]),
        high=place(bounds[1]),
        value=place(at),
        zero=place(0.0),
        margin=place(margin.number) if margin else None,
    )
