"""Values that know where in the run folder they stand.

A source is a file of the run folder, a line where the file has one row per line, and a JSON pointer
(RFC 6901, as a URI fragment) to the value: `gates.jsonl:3#/bpb_after/wikipedia`. A `*` for the line
means every row of the file. A computed value names all values that it is computed from, in the
order of its formula, and the formula's name in `how`.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from urllib.parse import quote

Value = float | int | str


@dataclass(frozen=True)
class Traced:
    """A value of the run folder, or one that is computed from such values."""

    value: Value
    sources: tuple[str, ...]
    how: str = ""
    """The formula, a key of `FORMULAS`; "" = as it stands there."""
    kind: str = ""
    """How it is written, a key of `FORMATS` in `yxanul.report.reading.words`; "" = as its type."""

    @property
    def number(self) -> float:
        """The value as a float; only for values that are numbers."""
        return float(self.value)

    def shown_as(self, kind: str) -> Traced:
        """Return the same value, written in another way."""
        return replace(self, kind=kind)


Story = tuple["str | Traced", ...]
"""A sentence in pieces: words of ours, and values of the run."""


@dataclass(frozen=True)
class Cited:
    """A fact that is not of this run: what is said, and who says so."""

    text: str
    source: str


FORMULAS = {
    "attempt": "the attempt in the file's name",
    "bits per byte": "the first list's sum, divided by the second's and by ln 2",
    "change": "the first divided by the second, minus one",
    "count": "how many there are",
    "date": "seconds since 1970, as a date",
    "detectable": "2.8 standard errors, from the width of Wilson's 95 % interval",
    "difference": "the mean of the first list minus that of the second",
    "dirty": "how many different items of this task the findings name",
    "distinct": "how many different entries the list has",
    "dollars": "the seconds of each process, in hours, times its price of an hour, summed",
    "file": "the whole file",
    "forecast": "from the rows up to that one: tokens left at the pace until then, and "
    "scores left at what those before took",
    "gain": "one minus the first divided by the second",
    "gold change": "bits per byte of the first two lists divided by those of the last two, minus "
    "one",
    "key": "the name of the value",
    "length": "how many entries the list has",
    "mean": "the mean of the list",
    "mean gain": "the mean, over pairs, of one minus the first divided by the second",
    "median": "the median of the column",
    "memory": "weights, gradients, optimizer state, activations: counted from shape and settings",
    "named": "the step in the name of the file or its folder",
    "off forecast": "the seconds of all processes, divided by the forecast, minus one",
    "own tokens": "the first, without the tokens of all steps up to the second, by the stages' "
    "settings",
    "paired change": "the first list's sum divided by the second's, minus one",
    "paired high": "one-sided 95 % bound above that change, by drawing documents (10,000 times)",
    "paired low": "one-sided 95 % bound below that change, by drawing documents (10,000 times)",
    "parameters": "counted from the model's shape",
    "perplexity": "e to the power of the first list's sum divided by the second's",
    "planned dollars": "the planner's hours times the price of an hour",
    "planned least": "the planner's seconds of training, at the highest MFU that it allows for",
    "planned most": "the planner's seconds of training, at the lowest MFU that it allows for",
    "planned rate": "the plan's tokens, divided by the planner's seconds of training",
    "planned seconds": "operations counted from shape and settings, divided by the cards' peak and "
    "by the MFU that the planner takes for likely",
    "since": "the first minus the second",
    "spent": "each row's step_s times the steps since the row before, summed",
    "spent tokens": "spent before the attempt, plus tokens seen now, minus those seen at its start",
    "sum": "the sum",
    "trained": "between rows of one process whose tokens rose: the seconds, without those of "
    "scores and of what a new sequence length took beyond its tokens",
    "whole steps": "the first divided by the second, rounded down",
    "wilson high": "the upper end of Wilson's 95 % interval of the mean",
    "wilson low": "the lower end of Wilson's 95 % interval of the mean",
}
"""What the page says about a computed value, for every `how`."""


def source_of(file: str, *keys: str | int, line: int | str | None = None) -> str:
    """Return the address of a value; `file` is relative to the run folder, or absolute."""
    escaped = (str(key).replace("~", "~0").replace("/", "~1") for key in keys)
    fragment = "".join("/" + quote(key, safe="~") for key in escaped)
    place = quote(file) if line is None else f"{quote(file)}:{line}"
    return f"{place}#{fragment}"


def of_run(name: str, source: str) -> str:
    """Return an address in a run folder as one among several runs; outside of it, as it stands."""
    return source if source.startswith("/") else f"{quote(name)}/{source}"


def change(later: Traced, earlier: Traced) -> Traced | None:
    """Return later / earlier - 1, or None where there is nothing to divide by."""
    if earlier.number == 0:
        return None
    ratio = later.number / earlier.number - 1
    return Traced(ratio, (*later.sources, *earlier.sources), "change", "change")


def gain(later: Traced, earlier: Traced) -> Traced | None:
    """Return 1 - later / earlier, a fall as a positive share; None where nothing can be divided."""
    if earlier.number == 0:
        return None
    share = 1 - later.number / earlier.number
    return Traced(share, (*later.sources, *earlier.sources), "gain", "change")


def mean_gain(gains: Sequence[Traced]) -> Traced:
    """Return the mean of several `gain`s."""
    mean = statistics.fmean(part.number for part in gains)
    return Traced(mean, _all_sources(gains), "mean gain", "change")


def total(parts: Sequence[Traced]) -> Traced:
    """Return the sum of values that stand in the run folder."""
    return Traced(sum(part.value for part in parts), _all_sources(parts), "sum")  # type: ignore[misc]


def count(parts: Sequence[Traced]) -> Traced:
    """Return how many there are."""
    return Traced(len(parts), _all_sources(parts), "count")


def median(values: Sequence[float], column: str) -> Traced:
    """Return the median of a column, whose one address `column` names all its rows."""
    return Traced(statistics.median(values), (column,), "median")


def _all_sources(parts: Sequence[Traced]) -> tuple[str, ...]:
    return tuple(source for part in parts for source in part.sources)
