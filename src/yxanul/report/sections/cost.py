"""What a run has cost in all: every process's wall clock, the part that went to scores, dollars."""

from __future__ import annotations

from dataclasses import dataclass

from yxanul.report.reading.gather import Run
from yxanul.report.reading.records import Record
from yxanul.report.reading.traced import Traced, count, total
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
    """Dollars per hour of the whole machine; None: there was none, or it changed."""
    usd: Traced | None
    """None: a process was given no price."""


def cost(run: Run) -> Cost | None:
    """Return what a run has cost; None when no process has written it down."""
    last = {row.need_count("process"): row for row in run.spending}
    seconds = [value for row in last.values() if (value := row.number("seconds")) is not None]
    if not seconds:
        return None
    scoring = [value for row in last.values() if (value := row.number("scoring_s")) is not None]
    prices = [price for row in last.values() if (price := _price(run, row)) is not None]
    is_same = len({price.number for price in prices}) == 1
    return Cost(
        wall=total(seconds).shown_as("duration"),
        scoring=total(scoring).shown_as("duration") if len(scoring) == len(last) else None,
        starts=count([Traced(number, (row.source("process"),)) for number, row in last.items()]),
        price=prices[-1].shown_as("usd") if is_same else None,
        usd=_dollars(seconds, prices) if len(prices) == len(seconds) else None,
    )


def _price(run: Run, row: Record) -> Traced | None:
    """Return what an hour cost the process of a row; where none was told, what it costs now."""
    price = row.number("usd_per_hour")
    if price is None and run.config is not None:
        price = run.config.number("optimization", "budget", "usd_per_hour")
    return price


def _dollars(seconds: list[Traced], prices: list[Traced]) -> Traced:
    pairs = list(zip(seconds, prices, strict=True))
    where = tuple(source for pair in pairs for part in pair for source in part.sources)
    usd = sum(spent.number / HOUR_S * price.number for spent, price in pairs)
    return Traced(usd, where, "dollars", "usd")
