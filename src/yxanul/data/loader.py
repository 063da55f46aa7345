"""The batch of a step: a pure function of (order, step, seq_len, rank, world_size).

The one idea: a step is a fixed list of chunks, laid out as rows of `seq_len` tokens, and a rank
takes a contiguous part of the rows. So neither the sequence length nor the number of ranks changes
what a step trains on, and there is no state to save. Micro-batches are cut by the caller.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from yxanul.data.mixture import chunks_in
from yxanul.data.order import StageOrder
from yxanul.data.shards import TokenStream
from yxanul.errors import UsageError

Rows = npt.NDArray[np.int64]


class StageLoader:
    """Reads the batches of one stage.

    Chunk c of a source is tokens c*C .. (c+1)*C - 1 of its stream (C = `chunk_tokens`), its
    targets are the tokens one further; so each token but the first and the dropped tail is a
    target exactly once per epoch.
    """

    def __init__(
        self,
        order: StageOrder,
        streams: Mapping[str, TokenStream],
        *,
        chunk_tokens: int,
        batch_tokens: int,
    ) -> None:
        """Take the order, and the training stream of each of its sources.

        Raises `UsageError` if a batch is not a whole number of chunks, or if a stream is shorter
        than the order needs.
        """
        if batch_tokens % chunk_tokens or batch_tokens < 1:
            raise UsageError(
                f"training.batch_tokens ({batch_tokens:,}) is not a whole number of chunks of "
                f"data.chunk_tokens ({chunk_tokens:,}); change one of them."
            )
        self._order = order
        self._streams = [streams[name] for name in order.sources]
        self._chunk_tokens = chunk_tokens
        self._chunks_per_step = batch_tokens // chunk_tokens
        for number, name in enumerate(order.sources):
            _check_length(order, number, available=chunks_in(len(streams[name]), chunk_tokens))

    @property
    def steps(self) -> int:
        """Whole steps in the order."""
        return len(self._order) // self._chunks_per_step

    def step_rows(
        self, step: int, seq_len: int, *, rank: int = 0, world_size: int = 1
    ) -> tuple[Rows, Rows]:
        """Return (inputs, targets) of a rank's part of a step, int64, each (rows, seq_len).

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
        chunks = self._chunks(step)
        first, last = rank * rows // world_size, (rank + 1) * rows // world_size
        inputs, targets = [], []
        for number in range(first // rows_per_chunk, -(-last // rows_per_chunk)):
            # A rank's part may begin or end inside a chunk: read only the rows that it needs.
            begin = max(first - number * rows_per_chunk, 0)
            end = min(last - number * rows_per_chunk, rows_per_chunk)
            source, chunk = chunks[number]
            start = chunk * self._chunk_tokens + begin * seq_len
            tokens = self._streams[source].read(start, (end - begin) * seq_len + 1)
            inputs.append(tokens[:-1])
            targets.append(tokens[1:])
        return _as_rows(inputs, seq_len), _as_rows(targets, seq_len)

    def _rows_per_chunk(self, seq_len: int) -> int:
        if seq_len < 1 or self._chunk_tokens % seq_len:
            raise UsageError(
                f"seq_len {seq_len:,} does not divide data.chunk_tokens "
                f"({self._chunk_tokens:,}); change training.seq_len_curriculum or chunk_tokens."
            )
        return self._chunk_tokens // seq_len

    def _chunks(self, step: int) -> list[tuple[int, int]]:
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


def _as_rows(parts: list[npt.NDArray[np.uint16]], seq_len: int) -> Rows:
    return np.concatenate(parts).astype(np.int64).reshape(-1, seq_len)
