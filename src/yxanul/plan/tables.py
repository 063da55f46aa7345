"""How the plan's tables look: one place for the form of all of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from yxanul.plan.cost import Range
from yxanul.plan.hardware import Assumption

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import RenderableType
    from rich.table import Table


def new_table(title: str, *columns: str) -> Table:
    """Return an empty table: the first column is text, the others are numbers to the right."""
    from rich import box
    from rich.table import Table

    table = Table(
        title=title,
        title_justify="left",
        title_style="bold",
        box=box.SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
    )
    for i, column in enumerate(columns):
        table.add_column(column, justify="right" if i else "left", no_wrap=i > 0)
    return table


def explained(table: Table, words: str) -> RenderableType:
    """Put an explanation under a table, as wide as the screen and not as the table."""
    from rich.console import Group
    from rich.text import Text

    return Group(table, Text(words, style="dim"))


def figures(value: float, digits: int) -> str:
    """Return a number to so many figures, a larger one whole: 3 of 16.24 are 16.2, of 1234 1,234.

    No number is written as a power of ten.
    """
    return f"{value:,.0f}" if value >= 10**digits - 0.5 else f"{value:.{digits}g}"


def percent(share: float) -> str:
    """Return a share of 1 as percent, to three figures: 0.162 -> "16.2 %"."""
    return f"{figures(100 * share, 3)} %"


def span(
    amount: Range | Assumption | None, write: Callable[[float], str], *, between: str = " - "
) -> str:
    """Return from where to where an amount may be, once where both read alike; ? = unknown."""
    if amount is None:
        return "?"
    low, high = write(amount.low), write(amount.high)
    return low if low == high else f"{low}{between}{high}"


def number(value: float | None, digits: int) -> str:
    """Return a number with `digits` decimals, or ? for an unknown one."""
    return "?" if value is None else f"{value:.{digits}f}"
