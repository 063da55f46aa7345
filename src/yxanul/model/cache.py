"""Keys and values of the positions that a model has read, so that a new token costs one position.

Rows may be of different lengths: all end in the same column and each begins in its own, so that a
step writes one column of every row and moves nothing. Key and value heads are kept as they are, not
repeated for the groups of query heads that share them (arXiv 2305.13245). Any model's layers may
write here; memory is taken when the first keys come, and on a CPU only as columns are written.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import torch
from torch import Tensor

SPARE_COLUMNS = 128
"""Beyond the longest text: when they are used up, all is shifted to the left."""
Text = TypeVar("Text")


@dataclass(frozen=True)
class Place:
    """Where the tokens of one forward pass stand: in columns `begin` to `end` of every row."""

    begin: int
    end: int
    starts: tuple[int, ...]
    """The column in which each row begins."""
    device: torch.device

    @cached_property
    def first(self) -> int:
        """The first column in which any row has something."""
        return min(self.starts)

    @cached_property
    def is_even(self) -> bool:
        """Whether all rows have read equally many tokens."""
        return max(self.starts) == self.first

    @cached_property
    def positions(self) -> Tensor:
        """The position of each new token in its row, (rows, new)."""
        columns = torch.arange(self.begin, self.end, device=self.device)
        return columns - torch.tensor(self.starts, device=self.device).unsqueeze(1)

    @cached_property
    def in_table(self) -> slice | Tensor:
        """Where a table of positions holds those of the new tokens: a slice costs no copy."""
        if self.is_even:
            return slice(self.begin - self.first, self.end - self.first)
        return self.positions

    @cached_property
    def is_filled(self) -> Tensor:
        """Which columns from `first` to `end` belong to a row, (rows, seen) bool."""
        columns = torch.arange(self.first, self.end, device=self.device)
        return columns >= torch.tensor(self.starts, device=self.device).unsqueeze(1)

    @cached_property
    def is_hidden(self) -> Tensor | None:
        """Where a token may not look, (rows or 1, 1, new, seen) bool; None: it may everywhere."""
        new, seen = self.end - self.begin, self.end - self.first
        if self.is_even and new == 1:
            return None
        later = torch.ones(new, seen, dtype=torch.bool, device=self.device).triu(1 + seen - new)
        if self.is_even:
            return later[None, None]
        return later | ~self.is_filled[:, None, None]


class LayerCache:
    """One layer's keys and values, each (rows, kv_heads, columns, head_dim) once there are some."""

    def __init__(self, *, rows: int, columns: int) -> None:
        self.rows, self.columns = rows, columns
        self.keys = self.values = torch.empty(0)
        self.place = Place(0, 0, (0,), torch.device("cpu"))
        """Where the tokens of the forward pass stand."""

    def extend(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Write (rows, kv_heads, new, head_dim) twice; return views of all that these rows hold."""
        if self.keys.numel() == 0:
            self._allocate(keys, values)
        rows, place = keys.size(0), self.place
        self.keys[:rows, :, place.begin : place.end] = keys
        self.values[:rows, :, place.begin : place.end] = values
        seen = slice(place.first, place.end)
        return self.keys[:rows, :, seen], self.values[:rows, :, seen]

    def adopt(self, other: "LayerCache", *, row: int, place: int, span: slice) -> None:
        """Copy the beginning of another cache's row into the columns `span` of row `place`."""
        if other.keys.numel() == 0:
            return
        if self.keys.numel() == 0:
            self._allocate(other.keys, other.values)
        self.clear((slice(place, place + 1), slice(span.start)))
        length = span.stop - span.start
        self.keys[place, :, span] = other.keys[row, :, :length]
        self.values[place, :, span] = other.values[row, :, :length]

    def copy(self, source: tuple[slice, slice], target: tuple[slice, slice]) -> None:
        """Copy a block of (rows, columns) to another one of its size; the two may overlap."""
        for tensor in (self.keys, self.values):
            if tensor.numel():
                tensor[target[0], :, target[1]] = tensor[source[0], :, source[1]].clone()

    def clear(self, block: tuple[slice, slice]) -> None:
        """Zero a block of (rows, columns) that rows beside it look at.

        They give it weight 0, and 0 times what lay there before may be nan.
        """
        for tensor in (self.keys, self.values):
            if tensor.numel():
                tensor[block[0], :, block[1]] = 0

    def _allocate(self, keys: Tensor, values: Tensor) -> None:
        # Nothing is written yet: a CPU gives memory as it is, and this may be for many long rows.
        self.keys, self.values = (
            given.new_empty((self.rows, given.size(1), self.columns, given.size(3)))
            for given in (keys, values)
        )


class KeyValueCache:
    """The caches of all layers, for at most `rows` rows in at most `columns` columns."""

    def __init__(self, layers: int, *, rows: int, columns: int) -> None:
        self.layers = [LayerCache(rows=rows, columns=columns) for _ in range(layers)]
        self.columns = columns
        self.used = 0
        """Columns that are filled."""
        self.starts = [0] * rows
        """The column in which each row begins."""

    def advance(self, tokens: Tensor) -> Place:
        """Make room for (rows, new) tokens of the first rows; each layer then writes theirs."""
        rows, new = tokens.shape
        if self.used + new > self.columns:
            self._forget(rows)
        place = Place(self.used, self.used + new, tuple(self.starts[:rows]), tokens.device)
        self.used += new
        for layer in self.layers:
            layer.place = place
        return place

    def adopt(
        self, other: "KeyValueCache", picks: Sequence[tuple[int, int]], *, first: int
    ) -> None:
        """Give rows from `first` on what rows of another cache, which begin at 0, have read.

        `picks` are those rows and how many of their tokens to take. Those before `first` go on, and
        all rows end in one column: more tokens than they have columns is a ValueError then.
        """
        longest = max(length for _, length in picks)
        if not first:
            self.used = longest
        elif longest > self.used:
            raise ValueError(f"{longest} tokens do not fit beside rows of {self.used} columns")
        for place, (row, length) in enumerate(picks, first):
            self.starts[place] = self.used - length
            span = slice(self.used - length, self.used)
            for ours, theirs in zip(self.layers, other.layers, strict=True):
                ours.adopt(theirs, row=row, place=place, span=span)

    def reach(self, column: int, *, rows: int) -> None:
        """Shift the first rows to the right until they end in `column`, unless they are beyond it.

        A longer row can then be adopted beside them. No row's positions change.
        """
        further = column - self.used
        if further <= 0:
            return
        if column > self.columns:
            raise ValueError(f"column {column} is beyond the {self.columns} of this cache")
        first, kept = min(self.starts[:rows]), slice(0, rows)
        for layer in self.layers:
            layer.copy((kept, slice(first, self.used)), (kept, slice(first + further, column)))
            layer.clear((kept, slice(self.used, first + further)))
        self.starts[:rows] = [start + further for start in self.starts[:rows]]
        self.used = column

    def move(self, source: int, target: int) -> None:
        """Copy a row over another one."""
        span = slice(self.starts[source], self.used)
        for layer in self.layers:
            layer.copy((slice(source, source + 1), span), (slice(target, target + 1), span))
        self.starts[target] = self.starts[source]

    def leave(self, ended: Iterable[Text], texts: list[Text]) -> None:
        """Give up the rows of texts that have ended; `texts`, those of the first rows, loses them.

        The last row takes the place of one that ends.
        """
        for text in ended:
            last = texts[-1]
            if last is not text:
                place = texts.index(text)
                # Which may find no memory: no text is off the list before.
                self.move(len(texts) - 1, place)
                texts[place] = last
            texts.pop()

    def _forget(self, rows: int) -> None:
        """Shift all to the left, over the columns in which none of the first rows has anything."""
        first = min(self.starts[:rows])
        kept = slice(0, rows)
        for layer in self.layers:
            layer.copy((kept, slice(first, self.used)), (kept, slice(0, self.used - first)))
        self.starts[:rows] = [start - first for start in self.starts[:rows]]
        self.used -= first
