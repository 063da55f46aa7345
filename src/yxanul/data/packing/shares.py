"""What packing does to a prepared source: documents cut, and what is paid for it in padding."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from yxanul.data.packing.chunks import PackedChunks
from yxanul.data.progress import SILENT, Pace, paced

_SHORTEST = 8  # the shortest rows that are looked at are an eighth of a chunk
_INT64 = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class PackingShare:
    """A source in rows of `seq_len`; all but `seq_len` are shares, 0 to 1."""

    source: str
    seq_len: int
    longer: float
    """Documents that are longer than a row, which every way has to cut."""
    cut_in_stream: float
    """Documents cut if data.packing is stream."""
    cut_packed: float
    """Documents cut if it is best_fit."""
    padding: float
    """Tokens that are padding if it is best_fit."""


def packing_shares(
    source: str, lengths: _INT64, *, chunk_tokens: int, pace: Pace = SILENT
) -> Iterator[PackingShare]:
    """Yield the shares in rows of a chunk and of its halves; lengths (documents,) as in the stream.

    A source without documents has none.
    """
    packed = PackedChunks(lengths, chunk_tokens)
    if not len(packed):
        return
    starts = np.cumsum(lengths) - lengths
    read = packed.targets(np.arange(len(packed), dtype=np.uint32))
    for seq_len in _rows_of(chunk_tokens):
        chunks = paced(range(len(packed)), f"chunks of {source} in rows of {seq_len:,}", pace=pace)
        yield PackingShare(
            source,
            seq_len,
            longer=float(np.mean(lengths > seq_len)),
            cut_in_stream=float(np.mean(starts // seq_len != (starts + lengths - 1) // seq_len)),
            cut_packed=_documents_cut(packed, starts, seq_len=seq_len, chunks=chunks)
            / len(lengths),
            padding=1 - read / (len(packed) * chunk_tokens),
        )


def _rows_of(chunk_tokens: int) -> Iterator[int]:
    seq_len = chunk_tokens
    while seq_len * _SHORTEST >= chunk_tokens:
        yield seq_len
        if seq_len % 2:
            return
        seq_len //= 2


def _documents_cut(
    packed: PackedChunks, starts: _INT64, *, seq_len: int, chunks: Iterable[int]
) -> int:
    """Return how many documents have a piece, of one of `chunks`, that begins within them."""
    begins = np.fromiter(
        (piece.start for chunk in chunks for piece in packed.row_pieces(chunk, seq_len)),
        dtype=np.int64,
    )
    documents = np.searchsorted(starts, begins, side="right") - 1
    return len(np.unique(documents[starts[documents] != begins]))
