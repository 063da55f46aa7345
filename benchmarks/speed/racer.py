"""What a race asks of a way of training, and the text that all are given."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch.nn.functional as F
from torch import Tensor

from yxanul.config.tokens import IGNORED
from yxanul.data.batches.loader import StageLoader, StepRows
from yxanul.data.batches.order import OrderKey, OrderSource, stage_order
from yxanul.data.batches.validation import validation_documents
from yxanul.data.packing.chunks import ChunkTable
from yxanul.data.prepared.manifest import load_manifest
from yxanul.data.prepared.shards import TokenStream, open_stream
from yxanul.errors import UsageError

UPDATE_TOKENS = 2048
"""Tokens of an update; a way of training cuts them into rows as it likes."""
LONGEST_ROW = 256
_MOST_UPDATES = 20_000  # more than any machine does in minutes

JUDGES = ("unseen", "searched")
"""Held-out documents: those by which no setting was chosen, and those by which settings are."""

Rows = Callable[[int], StepRows]
"""The rows of an update at a sequence length that divides `LONGEST_ROW`."""


class Racer(Protocol):
    """A model with its way of training; progress runs from 0 to 1 with the time that was given."""

    parameters: int
    """How many weights it trains."""

    def learn(self, rows: Rows, progress: float) -> None:
        """Do one update."""

    def read(self, inputs: Tensor, targets: Tensor) -> Tensor:
        """Return the nats of targets (rows, seq), 0 where they are ignored; no gradient."""


@dataclass(frozen=True)
class Text:
    """A prepared source: the tokens to learn from, and documents to be judged by."""

    stream: TokenStream
    documents: list[npt.NDArray[np.uint16]]
    source: str
    chunks: ChunkTable
    chunk_tokens: int

    def updates(self, seed: int) -> Iterator[Rows]:
        """Yield the rows of one update after another; every chunk once an epoch."""
        many = _MOST_UPDATES * UPDATE_TOKENS // self.chunk_tokens
        own = OrderSource(self.source, len(self.chunks[self.source]), 1.0)
        loader = StageLoader(
            stage_order(OrderKey(seed, "race"), many, own=[own]),
            {self.source: self.stream},
            chunks=self.chunks,
            chunk_tokens=self.chunk_tokens,
            batch_tokens=UPDATE_TOKENS,
        )
        for step in range(loader.steps):
            yield partial(loader.step_rows, step)


def open_text(
    root: Path, source: str, *, held_out_tokens: int, judge: str = "unseen", packing: str = "stream"
) -> Text:
    """Return a source of a prepared folder; `packing` is a value of data.packing.

    `judge`, of `JUDGES`: documents of as many held-out tokens by which no setting was chosen, or
    those before them. A source that has too few is a `UsageError`.
    """
    manifest = load_manifest(root)
    held_out = partial(validation_documents, manifest, root, source=source)
    documents = held_out(max_tokens=held_out_tokens)
    if judge == "unseen":
        documents = held_out(max_tokens=2 * held_out_tokens)[len(documents) :]
    if not documents:
        raise UsageError(
            f"{root / source}: settings are chosen by all of its held-out documents; prepare more, "
            "or take --judge searched"
        )
    chunk_tokens = UPDATE_TOKENS if packing == "stream" else LONGEST_ROW
    return Text(
        open_stream(manifest, root, source=source, split="train"),
        documents,
        source,
        ChunkTable(manifest, root, packing=packing, chunk_tokens=chunk_tokens),
        chunk_tokens,
    )


def nats_of(logits: Tensor, targets: Tensor) -> Tensor:
    """Return the nats of targets (rows, seq) under logits (rows, seq, vocab)."""
    costs = F.cross_entropy(
        logits.float().flatten(0, 1), targets.flatten(), ignore_index=IGNORED, reduction="none"
    )
    return costs.view(targets.shape)
