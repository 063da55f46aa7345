"""The figures of a chart as a table, for whoever cannot see it or lets no script run.

The one idea: a curve is told by its first, lowest, highest and last value and by some of its points
in between, each with its address. What a chart draws between them is left out, and said to be.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from yxanul.report.reading.records import Record
from yxanul.report.reading.traced import Cited, Story, Traced

MOST_POINTS = 20
"""Points that one curve is told by."""
_MOST_ROWS = 400
"""Rows of one chart's table, so that a run of many attempts stays a page that opens."""


@dataclass(frozen=True)
class Column:
    """What a curve shows: a key of its records, the words above it, and how it is written."""

    key: str
    title: str
    kind: str = ""


@dataclass(frozen=True)
class Curves:
    """Curves over the same tokens: their plain numbers, and what gives one with its address.

    `numbers` has a list per column. `tokens` takes an index, `value` an index and a column's place.
    """

    columns: tuple[Column, ...]
    numbers: tuple[Sequence[float | None], ...]
    tokens: Callable[[int], Traced]
    value: Callable[[int, int], Traced | None]


@dataclass(frozen=True)
class Ends:
    """A curve in four values."""

    title: str
    first: Traced | None
    lowest: Traced | None
    highest: Traced | None
    last: Traced | None


@dataclass(frozen=True)
class Piece:
    """The curves over one stage, domain, task or run: their ends, and rows of (tokens, values)."""

    name: Story | Cited
    ends: tuple[Ends, ...]
    rows: tuple[tuple[Traced, tuple[Traced | None, ...]], ...]


@dataclass(frozen=True)
class FigureTable:
    """Everything that is told of a chart in figures."""

    columns: tuple[Column, ...]
    pieces: tuple[Piece, ...]


def curves_of_rows(
    rows: Sequence[Record], columns: tuple[Column, ...], *, of: Callable[[str], str] = str
) -> Curves:
    """Return the curves of metric rows; `of` makes an address out of a row's own."""

    def tokens(index: int) -> Traced:
        return Traced(
            rows[index].need_count("tokens_seen"), (of(rows[index].source("tokens_seen")),)
        )

    return _curves(rows, columns, tokens=tokens, of=of)


def curves_of_scores(
    placed: Sequence[tuple[Record, tuple[str, int]]],
    columns: tuple[Column, ...],
    *,
    of: Callable[[str], str] = str,
) -> Curves:
    """Return the curves through scores, each with where and what its tokens are."""

    def tokens(index: int) -> Traced:
        source, seen = placed[index][1]
        return Traced(seen, (of(source),))

    return _curves([score for score, _ in placed], columns, tokens=tokens, of=of)


def curve_of_points(points: Sequence[tuple[Traced, Traced]], column: Column) -> Curves:
    """Return the curve through values that were computed: (tokens, value) each."""
    return Curves(
        (column,),
        ([value.number for _, value in points],),
        lambda index: points[index][0],
        lambda index, _: points[index][1],
    )


def table_of(curves: Sequence[tuple[Story | Cited, Curves]]) -> FigureTable:
    """Return what is told of a chart of one or more {name: curves}, all of the same columns."""
    most = max(2, min(MOST_POINTS, _MOST_ROWS // max(1, len(curves))))
    pieces = tuple(_piece(name, drawn, most=most) for name, drawn in curves)
    return FigureTable(curves[0][1].columns, pieces)


def _curves(
    records: Sequence[Record],
    columns: tuple[Column, ...],
    *,
    tokens: Callable[[int], Traced],
    of: Callable[[str], str],
) -> Curves:
    def value(index: int, place: int) -> Traced | None:
        column = columns[place]
        found = records[index].number(column.key)
        if found is None:
            return None
        return Traced(found.value, tuple(map(of, found.sources)), found.how, column.kind)

    numbers = tuple([record.plain_number(one.key) for record in records] for one in columns)
    return Curves(columns, numbers, tokens, value)


def _piece(name: Story | Cited, drawn: Curves, *, most: int) -> Piece:
    ends = []
    for place, column in enumerate(drawn.columns):
        numbers = drawn.numbers[place]
        known = [index for index, value in enumerate(numbers) if value is not None]
        if known:
            picked = (known[0], *_extremes(numbers, known), known[-1])
            ends.append(Ends(column.title, *(drawn.value(index, place) for index in picked)))
    places = range(len(drawn.columns))
    rows = tuple(
        (drawn.tokens(index), tuple(drawn.value(index, place) for place in places))
        for index in _picked(drawn.numbers[0], most=most)
    )
    return Piece(name, tuple(ends), rows)


def _picked(numbers: Sequence[float | None], *, most: int) -> list[int]:
    """Return the first, the last, the extremes of the first column, and some evenly between."""
    if len(numbers) <= most:
        return list(range(len(numbers)))
    known = [index for index, value in enumerate(numbers) if value is not None]
    kept = {0, len(numbers) - 1}
    between = most - len(kept)
    if known and between >= 2:
        kept |= set(_extremes(numbers, known))
        between = most - len(kept)
    step = (len(numbers) - 1) / (between + 1)
    return sorted(kept | {round(step * number) for number in range(1, between + 1)})


def _extremes(numbers: Sequence[float | None], known: Sequence[int]) -> tuple[int, int]:
    def size(index: int) -> float:
        value = numbers[index]
        assert value is not None
        return value

    return min(known, key=size), max(known, key=size)
