"""The batch of a step: a pure function of (order, step, seq_len, rank, world_size).

The one idea: a step is a fixed list of chunks, each laid out as rows of `seq_len` tokens, and a
rank takes a contiguous part of the rows. So neither the sequence length nor the number of ranks
changes what a step trains on, and there is no state to save. Micro-batches are cut by the caller.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from yxanul.config.tokens import END_OF_TEXT, IGNORED
from yxanul.data.batches.order import StageOrder
from yxanul.data.packing.chunks import Chunks
from yxanul.data.prepared.shards import TokenStream
from yxanul.errors import UsageError

Rows = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class StepRows:
    """A rank's part of a step; padding is `<|endoftext|>` whose target is `IGNORED`."""

    inputs: Rows
    """(rows, seq_len), and `targets` likewise: the tokens that follow."""
    targets: Rows
    starts: npt.NDArray[np.bool_]
    """(rows, seq_len): where a document, or a part of one that was cut, begins."""
    counted: int
    """Targets in the whole step, padding left out, of all ranks."""

    @classmethod
    def whole(cls, inputs: Rows, targets: Rows, *, ranks: int = 1) -> StepRows:
        """Return rows without padding, as many on each of the ranks, that begin no document."""
        return cls(inputs, targets, np.zeros(inputs.shape, dtype=np.bool_), ranks * inputs.size)

    def bounds(self, rows: slice) -> npt.NDArray[np.int32]:
        """Return where documents begin in these rows laid end to end, and their end.

        (documents + 1,). One begins with every row, at every `<|endoftext|>` and at `starts`; the
        padding between two counts as one.
        """
        ends = self.inputs[rows] == END_OF_TEXT
        padding = ends & (self.targets[rows] == IGNORED)
        begins = ends | self.starts[rows]
        begins[:, 1:] &= ~(padding[:, 1:] & padding[:, :-1])
        begins[:, 0] = True
        return np.append(np.flatnonzero(begins), begins.size).astype(np.int32)

    def document_tokens(self) -> float:
        """Return the mean tokens of the document that a token of these rows is in, at most a row.

        Where documents are kept apart it stands for the sequence length in the work of attention.
        """
        lengths = np.diff(self.bounds(slice(None))).astype(np.float64)
        return float((lengths**2).sum() / lengths.sum())


class StageLoader:
    """Reads the batches of one stage.

    The inputs of a chunk are the places of the stream that it names, its targets the tokens one
    further; so a token is a target at most once per epoch.
    """

    def __init__(
        self,
        order: StageOrder,
        streams: Mapping[str, TokenStream],
        *,
        chunks: Mapping[str, Chunks],
        chunk_tokens: int,
        batch_tokens: int,
    ) -> None:
        """Take the order, and the training stream and the chunks of each of its sources.

        Raises `UsageError` if a batch is not a whole number of chunks, or if a source has fewer
        than the order needs.
        """
        if batch_tokens % chunk_tokens or batch_tokens < 1:
            raise UsageError(
                f"training.batch_tokens ({batch_tokens:,}) is not a whole number of chunks of "
                f"data.chunk_tokens ({chunk_tokens:,}); change one of them."
            )
        self._order = order
        self._streams = [streams[name] for name in order.sources]
        self._chunks = [chunks[name] for name in order.sources]
        self._chunk_tokens = chunk_tokens
        self._chunks_per_step = batch_tokens // chunk_tokens
        for number, held in enumerate(self._chunks):
            _check_length(order, number, available=len(held))

    @property
    def steps(self) -> int:
        """Whole steps in the order."""
        return len(self._order) // self._chunks_per_step

    def step_rows(self, step: int, seq_len: int, *, rank: int = 0, world_size: int = 1) -> StepRows:
        """Return a rank's part of a step.

        Raises `UsageError` if `seq_len` does not divide the chunk or `world_size` the rows, and
        `IndexError` for a step after the last.
        """
        rows_per_chunk = self._rows_per_chunk(seq_len)
        rows = rows_per_chunk * self._chunks_per_step
        if rows % world_size:
            raise UsageError(
                f"A step has {rows} rows of {seq_len:,} tokens, which {world_size} ranks cannot "
                "share equally; change training.batch_tokens or the number of ranks."
            )
        if not 0 <= rank < world_size:
            raise IndexError(f"rank {rank} is outside 0..{world_size - 1}")
        chunks = self._step_chunks(step)
        first, last = rank * rows // world_size, (rank + 1) * rows // world_size
        filled = _Filled(last - first, seq_len)
        for number in range(first // rows_per_chunk, -(-last // rows_per_chunk)):
            # A rank's part may begin or end inside a chunk: read only the rows that it needs.
            begin = max(first - number * rows_per_chunk, 0)
            end = min(last - number * rows_per_chunk, rows_per_chunk)
            source, chunk = chunks[number]
            offset = max(0, number * rows_per_chunk - first) * seq_len
            for piece in self._chunks[source].pieces(chunk, seq_len, first=begin, last=end):
                tokens = self._streams[source].read(piece.start, piece.tokens + 1)
                filled.put(offset + piece.offset, tokens)
        return filled.rows(counted=self._counted(step))

    def _counted(self, step: int) -> int:
        part = slice(step * self._chunks_per_step, (step + 1) * self._chunks_per_step)
        sources, chunks = self._order.source_index[part], self._order.chunk_index[part]
        return sum(
            self._chunks[number].targets(chunks[sources == number])
            for number in np.unique(sources).tolist()
        )

    def _rows_per_chunk(self, seq_len: int) -> int:
        if seq_len < 1 or self._chunk_tokens % seq_len:
            raise UsageError(
                f"seq_len {seq_len:,} does not divide data.chunk_tokens "
                f"({self._chunk_tokens:,}); change training.seq_len_curriculum or chunk_tokens."
            )
        return self._chunk_tokens // seq_len

    def _step_chunks(self, step: int) -> list[tuple[int, int]]:
        if not 0 <= step < self.steps:
            raise IndexError(f"step {step} is outside the stage's {self.steps} steps")
        part = slice(step * self._chunks_per_step, (step + 1) * self._chunks_per_step)
        sources = self._order.source_index[part].tolist()
        chunks = self._order.chunk_index[part].tolist()
        return list(zip(sources, chunks, strict=True))


def _check_length(order: StageOrder, number: int, *, available: int) -> None:
    needed = int(order.chunk_index[order.source_index == number].max(initial=0)) + 1
    if needed > available:
        raise UsageError(
            f"The source {order.sources[number]} holds {available} chunks, but the order reads "
            f"{needed}; a source must hold at least one chunk and one token more. Lower "
            "data.chunk_tokens, or use the data that the order was made for."
        )


class _Filled:
    """Rows of padding, until tokens are put into them."""

    def __init__(self, rows: int, seq_len: int) -> None:
        self._shape = (rows, seq_len)
        self._inputs = np.full(rows * seq_len, END_OF_TEXT, dtype=np.int64)
        self._targets = np.full(rows * seq_len, IGNORED, dtype=np.int64)
        self._starts = np.zeros(rows * seq_len, dtype=np.bool_)

    def put(self, offset: int, tokens: npt.NDArray[np.uint16]) -> None:
        """Put (n + 1,) tokens at an offset: n inputs, and the targets one further."""
        span = slice(offset, offset + len(tokens) - 1)
        self._inputs[span], self._targets[span] = tokens[:-1], tokens[1:]
        self._starts[offset] = True

    def rows(self, *, counted: int) -> StepRows:
        """Return what was put, as rows."""
        return StepRows(
            self._inputs.reshape(self._shape),
            self._targets.reshape(self._shape),
            self._starts.reshape(self._shape),
            counted,
        )
