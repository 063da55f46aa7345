"""The promises as tables: what arithmetic judges first, what only a measurement can tell after."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING

from yxanul.cards import GB
from yxanul.plan.claims.claim import Claim
from yxanul.plan.tables import figures, new_table
from yxanul.units import format_count, format_hours, format_usd

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import RenderableType
    from rich.table import Table
    from rich.text import Text

_VERDICT = {True: ("holds", "green"), False: ("does not hold", "red")}
_WRITE: dict[str, Callable[[float], str]] = {
    "hours": lambda value: f"{format_hours(value)} h",
    "usd": format_usd,
    "bytes": lambda value: f"{figures(value / GB, 3)} GB",
    "x": lambda value: f"{figures(value, 3)}x",
    "%": lambda value: f"{figures(value, 3)} %",
    "": lambda value: f"{value:g}",
}


def claim_parts(claims: tuple[Claim, ...]) -> list[RenderableType]:
    """Return two tables, of the promises with a verdict and of those without one."""
    from rich.text import Text

    judged = [claim for claim in claims if claim.holds is not None]
    unjudged = [claim for claim in claims if claim.holds is None]
    parts: list[RenderableType] = []
    if judged:
        title = "Promised (predecessor's README of 21 August 2025), and computed"
        table = _claims_table(title, "promised", "computed")
        table.add_column("verdict", no_wrap=True)
        for claim in judged:
            verdict = Text.styled(*_VERDICT[claim.holds is True])
            table.add_row(
                _words(claim.claim, claim.why), _promised(claim), _computed(claim), verdict
            )
        parts.append(table)
    if unjudged:
        table = _claims_table("Promised, and cannot be computed here", "promised")
        for why, alike in groupby(unjudged, key=lambda claim: claim.why):
            group = list(alike)
            names = "\n".join(claim.claim for claim in group)
            table.add_row(_words(names, why), "\n".join(_promised(claim) for claim in group))
        parts.append(table)
    return parts


def _claims_table(title: str, *columns: str) -> Table:
    table = new_table(title, "promise, and why", *columns)
    table.columns[0].ratio = 1
    table.expand = True
    return table


def _words(promises: str, why: str) -> Text:
    """Write the reason under its promise: a column of its own would be too narrow to read."""
    from rich.text import Text

    return Text.assemble((promises, "bold"), "\n", (why, "dim"), "\n")


def _computed(claim: Claim) -> str:
    return "?" if claim.computed is None else _write(claim, claim.computed)


def _promised(claim: Claim) -> str:
    if claim.promised is None:
        return "-"
    if claim.unit == "hours":
        return f"{claim.promised:g} h"
    low = _write(claim, claim.promised)
    return low if claim.promised_high is None else f"{low} - {_write(claim, claim.promised_high)}"


def _write(claim: Claim, value: float) -> str:
    return _WRITE.get(claim.unit, format_count)(value)
