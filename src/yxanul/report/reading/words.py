"""How values are written for people; the full value stays beside them on the page."""

from __future__ import annotations

import re
from collections.abc import Callable
from urllib.parse import unquote

from yxanul.report.reading.traced import FORMULAS, Traced
from yxanul.units import format_bytes, format_count, format_duration

MINUS = "\N{MINUS SIGN}"
_TONES = {
    "pass": "good",
    "warn": "warn",
    "extend": "warn",
    "rollback": "bad",
    "stop": "bad",
    "fail": "bad",
}
"""How a verdict or a result looks; what is not here (not run, not applicable) looks quiet."""


def signed_percent(share: float, digits: int = 1) -> str:
    """Return a relative change with its sign: -0.051 -> "−5.1 %"."""
    return f"{_signed(100 * share, digits)} %"


def signed_points(share: float) -> str:
    """Return a difference of two rates in percentage points: 0.012 -> "+1.20 pp"."""
    return f"{_signed(100 * share, 2)} pp"


def sentence(text: str) -> str:
    """Return a stored sentence with its figures written as the page writes its own.

    "-48.46%" -> "−48.46 %": a true minus, and a space that does not break.
    """
    spaced = re.sub(r"(?<=\d)\s?%", "\N{NO-BREAK SPACE}%", text)
    return re.sub(r"(?<![\w.)-])-(?=\d)", MINUS, spaced)


def _signed(number: float, digits: int) -> str:
    rounded = round(number, digits)
    sign = "+" if rounded > 0 else MINUS if rounded < 0 else ""
    return f"{sign}{abs(rounded):.{digits}f}"


FORMATS: dict[str, Callable[[float], str]] = {
    "whole": lambda value: f"{value:,.0f}",
    "count": format_count,
    "bpb": lambda value: f"{value:.3f}",
    "change": signed_percent,
    "small change": lambda value: signed_percent(value, 2),
    "share": lambda value: f"{100 * value:.1f} %",
    "small share": lambda value: f"{100 * value:.2f} %",
    "points": signed_points,
    "points size": lambda value: f"{100 * value:.2f} pp",
    "perplexity": lambda value: f"{value:,.1f}",
    "plain": lambda value: f"{MINUS if value < 0 else ''}{abs(value):.4g}",
    "duration": format_duration,
    "bytes": format_bytes,
    "usd": lambda value: f"${value:,.2f}",
}
"""How a kind of number is written; `bpb` in bits per byte, `change`, `share` and `points` as shares
of 1."""


def show(traced: Traced, kind: str = "") -> str:
    """Return a value as the page shows it: as `kind` says, else its own kind, else its type.

    A text is shown as it stands; of the kind "sentence", with its figures in the page's writing.
    """
    if isinstance(traced.value, str):
        return sentence(traced.value) if "sentence" in (kind, traced.kind) else traced.value
    usual = "whole" if isinstance(traced.value, int) else "plain"
    return FORMATS[kind or traced.kind or usual](traced.number)


def address(source: str) -> str:
    """Return an address for people: "gates.jsonl, line 1: bpb_after / wikipedia"."""
    place, _, fragment = source.partition("#")
    file, _, line = place.rpartition(":") if re.search(r":(\d+|\*)$", place) else (place, "", "")
    keys = [part.replace("~1", "/").replace("~0", "~") for part in fragment.split("/")[1:]]
    where = "every line" if line == "*" else f"line {line}"
    told = f"{unquote(file)}, {where}" if line else unquote(file)
    return f"{told}: {' / '.join(map(unquote, keys))}" if keys else told


def origin(traced: Traced) -> str:
    """Return where a value comes from, as the page says it beside the value."""
    most = 4
    places = [address(source) for source in traced.sources[:most]]
    if len(traced.sources) > most:
        places.append(f"and {len(traced.sources) - most} more")
    told = "; ".join(places)
    return f"{told} ({FORMULAS[traced.how]})" if traced.how else told


def tone(word: Traced | None) -> str:
    """Return how a verdict or result looks."""
    return _TONES.get(str(word.value), "quiet") if word is not None else "quiet"
