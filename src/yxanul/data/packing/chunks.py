"""The chunks of a source, which the order deals out: stretches of its stream, or packed documents.

The one idea: a chunk is a list of places in the token stream, so both ways read the same shards,
and in both the input is a token and its target the next one of the stream. A chunk is always
`chunk_tokens` long; at a shorter sequence its content is laid out again within itself. So the order
of chunks is the same at any length, and a document is never read in two chunks of one epoch unless
it is longer than one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from yxanul.data.packing.best_fit import best_fit
from yxanul.data.prepared.documents import read_documents
from yxanul.data.prepared.manifest import Manifest
from yxanul.data.progress import SILENT, Pace, paced

_INT64 = npt.NDArray[np.int64]


class Piece(NamedTuple):
    """Tokens start .. start + tokens - 1 of the stream, `offset` tokens after a row's beginning."""

    offset: int
    start: int
    tokens: int


class Chunks(Protocol):
    """The chunks of one source, numbered from 0."""

    def __len__(self) -> int:
        """Return how many there are."""

    def pieces(self, chunk: int, seq_len: int, *, first: int, last: int) -> list[Piece]:
        """Return what rows first .. last - 1 of a chunk hold, offsets from row `first` on.

        What no piece covers is padding.
        """

    def targets(self, chunks: npt.NDArray[np.uint32]) -> int:
        """Return how many tokens of these chunks have a target: all but padding."""


class StreamChunks:
    """Stretches of the stream, one after another: no padding, and documents cut where they fall."""

    def __init__(self, tokens: int, chunk_tokens: int) -> None:
        """The last token is only a target, and a tail shorter than a chunk is not read."""
        self._chunks = max(0, tokens - 1) // chunk_tokens
        self._chunk_tokens = chunk_tokens

    def __len__(self) -> int:
        return self._chunks

    def pieces(self, chunk: int, seq_len: int, *, first: int, last: int) -> list[Piece]:
        """Return the one stretch that these rows are."""
        start = chunk * self._chunk_tokens + first * seq_len
        return [Piece(0, start, (last - first) * seq_len)]

    def targets(self, chunks: npt.NDArray[np.uint32]) -> int:
        """Return all of their tokens."""
        return len(chunks) * self._chunk_tokens


class PackedChunks:
    """Whole documents put together by best fit; only one that is longer than a chunk is cut."""

    def __init__(self, lengths: _INT64, chunk_tokens: int) -> None:
        """Take the tokens of each document in stream order, (documents,)."""
        starts = np.cumsum(lengths) - lengths
        lengths = lengths.copy()
        lengths[-1:] -= 1  # the stream's last token has no target
        full, rest = np.divmod(lengths, chunk_tokens)
        within = np.arange(full.sum()) - np.repeat(np.cumsum(full) - full, full)
        blocks = np.repeat(starts, full) + within * chunk_tokens
        tails, has_tail = starts + full * chunk_tokens, rest > 0
        bins, count = best_fit(rest[has_tail], chunk_tokens)
        chunk = np.concatenate([np.arange(len(blocks)), bins + len(blocks)])
        start = np.concatenate([blocks, tails[has_tail]])
        tokens = np.concatenate([np.full(len(blocks), chunk_tokens), rest[has_tail]])
        order = np.lexsort((start, chunk))
        self._start, self._tokens = start[order], tokens[order].astype(np.int32)
        self._ends = np.cumsum(np.bincount(chunk, minlength=len(blocks) + count))
        self._targets = np.add.reduceat(self._tokens, self._begins) if len(self) else tokens
        self._chunk_tokens = chunk_tokens

    def __len__(self) -> int:
        return len(self._ends)

    @property
    def _begins(self) -> _INT64:
        return np.concatenate([[0], self._ends[:-1]])

    def pieces(self, chunk: int, seq_len: int, *, first: int, last: int) -> list[Piece]:
        """Return the documents of these rows, or parts of them where they are longer than a row."""
        rows = self._rows(chunk, seq_len)[first:last]
        return [
            piece._replace(offset=piece.offset + number * seq_len)
            for number, row in enumerate(rows)
            for piece in row
        ]

    def row_pieces(self, chunk: int, seq_len: int) -> list[Piece]:
        """Return what all rows of a chunk hold, offsets within each row."""
        return [piece for row in self._rows(chunk, seq_len) for piece in row]

    def _rows(self, chunk: int, seq_len: int) -> list[list[Piece]]:
        span = slice(int(self._ends[chunk - 1]) if chunk else 0, int(self._ends[chunk]))
        held = zip(self._start[span].tolist(), self._tokens[span].tolist(), strict=True)
        return lay_out(list(held), seq_len, rows=self._chunk_tokens // seq_len)

    def targets(self, chunks: npt.NDArray[np.uint32]) -> int:
        """Return the tokens of their documents."""
        return int(self._targets[chunks].sum())


def lay_out(held: list[tuple[int, int]], seq_len: int, *, rows: int) -> list[list[Piece]]:
    """Lay (start, tokens) out in rows that have room for all of them; return the rows.

    What is longer than a row fills whole ones. The rest goes by best fit, and is cut where no row
    has room for it.
    """
    laid: list[list[Piece]] = []
    rest: list[tuple[int, int]] = []
    for start, tokens in held:
        full = tokens - tokens % seq_len
        laid += [[Piece(0, place, seq_len)] for place in range(start, start + full, seq_len)]
        if tokens > full:
            rest.append((start + full, tokens - full))
    room = [seq_len] * (rows - len(laid))
    shared: list[list[Piece]] = [[] for _ in room]
    for start, tokens in sorted(rest, key=lambda one: -one[1]):
        begin, end = start, start + tokens
        while begin < end:
            row = _best_row(room, end - begin)
            taken = min(room[row], end - begin)
            shared[row].append(Piece(seq_len - room[row], begin, taken))
            room[row] -= taken
            begin += taken
    return laid + shared


def _best_row(room: list[int], tokens: int) -> int:
    """Return the row with the least room that is enough, else the one with the most."""
    enough = [(left, row) for row, left in enumerate(room) if left >= tokens]
    return min(enough)[1] if enough else room.index(max(room))


class ChunkTable(Mapping[str, Chunks]):
    """The chunks of every source of a prepared folder, each cut when it is first asked for."""

    def __init__(self, manifest: Manifest, root: Path, *, packing: str, chunk_tokens: int) -> None:
        """`packing` is a value of data.packing."""
        self._manifest, self._root = manifest, root
        self._packing, self._chunk_tokens = packing, chunk_tokens
        self._cut: dict[str, Chunks] = {}

    def __getitem__(self, source: str) -> Chunks:
        """Raise `CorruptShardError` for a list of documents that is not as written."""
        if source not in self._cut:
            self._cut[source] = self._chunks(source)
        return self._cut[source]

    def __iter__(self) -> Iterator[str]:
        return iter(self._manifest.sources)

    def __len__(self) -> int:
        return len(self._manifest.sources)

    def _chunks(self, source: str) -> Chunks:
        if self._packing == "stream":
            return StreamChunks(self._manifest.source(source).train.tokens, self._chunk_tokens)
        lengths = document_lengths(self._manifest, self._root, source=source)
        return PackedChunks(lengths, self._chunk_tokens)


def document_lengths(manifest: Manifest, root: Path, *, source: str, pace: Pace = SILENT) -> _INT64:
    """Return the tokens of each training document, in stream order, (documents,).

    Raises `CorruptShardError` for a list of documents that is not as written.
    """
    written = read_documents(manifest, root, source=source, split="train")
    documents = paced(written, f"documents of {source}", pace=pace)
    return np.fromiter((document.tokens for _, document in documents), dtype=np.int64)
