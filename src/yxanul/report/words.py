"""How values are written for people; the full value stays beside them on the page."""

from __future__ import annotations

import re
from collections.abc import Callable
from urllib.parse import unquote

from yxanul.report.traced import FORMULAS, Traced
from yxanul.units import format_count

MINUS = "\N{MINUS SIGN}"


def duration(seconds: float) -> str:
    """Return seconds in the two units that fit: 176 -> "2 min 56 s"."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600:,} h {whole % 3600 // 60} min"


def signed_percent(share: float) -> str:
    """Return a relative change with its sign: -0.051 -> "−5.1 %"."""
    percent = round(100 * share, 1)
    sign = "+" if percent > 0 else MINUS if percent < 0 else ""
    return f"{sign}{abs(percent):.1f} %"


FORMATS: dict[str, Callable[[float], str]] = {
    "whole": lambda value: f"{value:,.0f}",
    "count": format_count,
    "bpb": lambda value: f"{value:.3f}",
    "change": signed_percent,
    "share": lambda value: f"{100 * value:.1f} %",
    "plain": lambda value: f"{value:.4g}",
    "duration": duration,
}
"""How a kind of number is written; `bpb` in bits per byte, `change` and `share` as shares of 1."""


def show(traced: Traced, kind: str = "") -> str:
    """Return a value as the page shows it: as `kind` says, else its own kind, else its type."""
    if isinstance(traced.value, str):
        return traced.value
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
