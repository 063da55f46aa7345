"""What a race asks of a way of training, and the text that all are given."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch.nn.functional as F
from torch import Tensor

from yxanul.config.tokens import IGNORED
from yxanul.data.manifest import load_manifest
from yxanul.data.shards import TokenStream, open_stream
from yxanul.data.validation import validation_documents

CHUNK = 2048
"""Tokens of an update, a stretch of the text; a way of training cuts it into rows as it likes."""


class Racer(Protocol):
    """A model with its way of training; progress runs from 0 to 1 with the time that was given."""

    def learn(self, chunk: npt.NDArray[np.int64], progress: float) -> None:
        """Do one update on CHUNK + 1 tokens in a row."""

    def read(self, inputs: Tensor, targets: Tensor) -> Tensor:
        """Return the nats of targets (rows, seq), 0 where they are ignored; no gradient."""


@dataclass(frozen=True)
class Text:
    """A prepared source: the tokens to learn from, and documents to be judged by."""

    stream: TokenStream
    documents: list[npt.NDArray[np.uint16]]

    def chunks(self, seed: int) -> Iterator[npt.NDArray[np.int64]]:
        """Yield stretches of CHUNK + 1 tokens, each once an epoch, without an end."""
        generator = np.random.default_rng(seed)
        count = (len(self.stream) - 1) // CHUNK
        while True:
            for chunk in generator.permutation(count):
                yield self.stream.read(int(chunk) * CHUNK, CHUNK + 1).astype(np.int64)


def open_text(root: Path, source: str, *, held_out_tokens: int) -> Text:
    """Return a source of a prepared folder."""
    manifest = load_manifest(root)
    stream = open_stream(manifest, root, source=source, split="train")
    found = validation_documents(manifest, root, source=source, max_tokens=held_out_tokens)
    return Text(stream, found)


def nats_of(logits: Tensor, targets: Tensor) -> Tensor:
    """Return the nats of targets (rows, seq) under logits (rows, seq, vocab)."""
    costs = F.cross_entropy(
        logits.float().flatten(0, 1), targets.flatten(), ignore_index=IGNORED, reduction="none"
    )
    return costs.view(targets.shape)


def as_rows(
    chunk: npt.NDArray[np.int64], seq_len: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Cut CHUNK + 1 tokens into inputs and targets, each (CHUNK / seq_len, seq_len)."""
    return chunk[:-1].reshape(-1, seq_len), chunk[1:].reshape(-1, seq_len)
