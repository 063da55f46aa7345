"""Bits per byte of held-out documents, comparable across tokenizers and sequence lengths.

Each document is scored alone: `<|endoftext|>` before it, its own tokens as targets, its UTF-8 bytes
as the measure. A document longer than seq_len is scored in windows with the previous half as
context, every token once. Sums are fp64.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from yxanul.config.tokens import IGNORED
from yxanul.errors import UsageError
from yxanul.evaluate.unheard import unheeded
from yxanul.model.transformer import Transformer

BATCH_TOKENS = 8192
"""What a batch holds at most: a batch of other rows may round otherwise."""


@dataclass(frozen=True)
class DocumentScore:
    """What one document cost: nats over `bytes` UTF-8 bytes in `tokens` tokens."""

    nats: float
    bytes: int
    tokens: int


@dataclass(frozen=True)
class _Window:
    document: int
    tokens: np.ndarray
    """Inputs and the last target, (length + 1,)."""
    first_scored: int
    """Index of the first target that this window scores; those before it are context."""


def bits_per_byte(scores: Sequence[DocumentScore]) -> float:
    """Return sum of nats / (ln 2 x sum of bytes); nothing to score is a `UsageError`."""
    measure = sum(score.bytes for score in scores)
    if measure == 0:
        raise UsageError(
            "there is no held-out text to score: raise data.validation_fraction or "
            "evaluation.tokens_per_domain, or give the source more documents"
        )
    return math.fsum(score.nats for score in scores) / (math.log(2) * measure)


@torch.no_grad()
def score_documents(
    model: Transformer,
    documents: Sequence[np.ndarray],
    *,
    token_bytes: np.ndarray,
    seq_len: int,
    batch_tokens: int = BATCH_TOKENS,
    heed: Callable[[], None] = unheeded,
) -> list[DocumentScore]:
    """Score documents, each (1 + tokens,) and beginning with `<|endoftext|>`.

    Windows hold at most seq_len tokens, a batch at most batch_tokens (but always one window).
    token_bytes (vocab,) holds each id's number of UTF-8 bytes. The model is read, not changed.
    `heed` is called before each batch; what it raises ends the scoring.
    """
    device = model.embed_tokens.weight.device

    def read(inputs: Tensor, targets: Tensor) -> Tensor:
        heed()
        return model.nats(inputs.to(device), targets.to(device))

    nats = document_nats(documents, read=read, seq_len=seq_len, batch_tokens=batch_tokens)
    return [
        DocumentScore(float(cost), int(token_bytes[ids[1:]].sum()), len(ids) - 1)
        for cost, ids in zip(nats, documents, strict=True)
    ]


def document_nats(
    documents: Sequence[np.ndarray],
    *,
    read: Callable[[Tensor, Tensor], Tensor],
    seq_len: int,
    batch_tokens: int,
) -> np.ndarray:
    """Return the nats of each document, (documents,) fp64, whatever model reads it.

    Documents are ids (1 + tokens,), the first of which is context. `read` takes inputs and targets
    (rows, seq), where IGNORED is no target, and returns nats of that shape, 0 where there is none.
    """
    nats = np.zeros(len(documents), dtype=np.float64)
    windows = [w for index, d in enumerate(documents) for w in _windows(index, d, seq_len=seq_len)]
    for batch in _batches(windows, batch_tokens):
        rows = read(*_padded(batch)).double().sum(dim=1).cpu()
        for window, value in zip(batch, rows.tolist(), strict=True):
            nats[window.document] += value
    return nats


def _windows(index: int, ids: np.ndarray, *, seq_len: int) -> Iterator[_Window]:
    """Cut a document so that every target is scored once, after half a window where there is one.

    A seq_len of 1 leaves no context; a document without tokens has no window.
    """
    targets = len(ids) - 1
    if targets > 0:
        yield _Window(index, ids[: seq_len + 1], 0)
    stride = max(1, seq_len // 2)
    done = seq_len
    while done < targets:
        end = min(done + stride, targets)
        begin = end - seq_len
        yield _Window(index, ids[begin : end + 1], done - begin)
        done = end


def _batches(windows: list[_Window], batch_tokens: int) -> Iterator[list[_Window]]:
    """Group windows of like length, so that little is padding, in an order fixed by the data."""
    ordered = sorted(windows, key=lambda w: (len(w.tokens), w.document))
    batch: list[_Window] = []
    for window in ordered:
        if batch and (len(batch) + 1) * (len(window.tokens) - 1) > batch_tokens:
            yield batch
            batch = []
        batch.append(window)
    if batch:
        yield batch


def _padded(batch: list[_Window]) -> tuple[Tensor, Tensor]:
    """Return inputs and targets (rows, longest), padded on the right by ignored targets."""
    longest = max(len(window.tokens) for window in batch) - 1
    inputs = np.zeros((len(batch), longest), dtype=np.int64)
    targets = np.full((len(batch), longest), IGNORED, dtype=np.int64)
    for row, window in enumerate(batch):
        length = len(window.tokens) - 1
        inputs[row, :length] = window.tokens[:-1]
        targets[row, window.first_scored : length] = window.tokens[1 + window.first_scored :]
    return torch.from_numpy(inputs), torch.from_numpy(targets)
