"""What a run has cost in all: every process's wall clock, the part that went to scores, dollars.

It also tells what cost time and taught nothing: steps that were skipped.
"""

from __future__ import annotations

from dataclasses import dataclass

from yxanul.report.gather import Run
from yxanul.report.records import Record
from yxanul.report.traced import Story, Traced, count, total
from yxanul.units import HOUR_S


@dataclass(frozen=True)
class Cost:
    """Wall clock up to the last row, and what it cost."""

    wall: Traced
    """Seconds of all processes, preparation and scores included."""
    scoring: Traced | None
    """Seconds of these that went to scores; None: an older version did not say."""
    starts: Traced
    """Processes that have worked on the run."""
    price: Traced | None
    """Dollars per hour of the whole machine; None: the run was given no price."""
    usd: Traced | None


def cost(run: Run) -> Cost | None:
    """Return what a run has cost; None when no process has written it down."""
    last = {row.need_count("process"): row for row in run.spending}
    seconds = [value for row in last.values() if (value := row.number("seconds")) is not None]
    if not seconds:
        return None
    scoring = [value for row in last.values() if (value := row.number("scoring_s")) is not None]
    price = None
    if run.config is not None:
        price = run.config.number("optimization", "budget", "usd_per_hour")
    return Cost(
        wall=total(seconds).shown_as("duration"),
        scoring=total(scoring).shown_as("duration") if len(scoring) == len(last) else None,
        starts=count([Traced(number, (row.source("process"),)) for number, row in last.items()]),
        price=None if price is None else price.shown_as("usd"),
        usd=None if price is None else _dollars(seconds, price),
    )


def skipped(run: Run) -> tuple[Story, ...]:
    """Return a sentence for each step that moved no weight."""
    return tuple(_skipped(row) for row in run.metrics if row.find("skipped") is not None)


def _dollars(seconds: list[Traced], price: Traced) -> Traced:
    hours = sum(part.number for part in seconds) / HOUR_S
    where = tuple(source for part in (*seconds, price) for source in part.sources)
    return Traced(hours * price.number, where, "dollars", "usd")


def _skipped(row: Record) -> Story:
    step, why = row.number("step"), row.text("skipped")
    return ("Step ", step or "", ": no weight was moved, since ", why or "", ".")
