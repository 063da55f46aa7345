"""Perplexity and bits per byte of held-out documents under any language model.

The one idea: the documents and the protocol are those of `yxanul.evaluate.bits_per_byte`, so the
figures of our models are the gates' own, and another tokenizer's model stands beside them: it reads
the same text in its own tokens. Bits per byte compare across tokenizers; loss and perplexity, per
token, do not.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from yxanul.config.tokens import IGNORED
from yxanul.data.tokenizer import load_tokenizer
from yxanul.errors import NumericsError, UsageError
from yxanul.evaluate.bits_per_byte import (
    DocumentScore,
    bits_per_byte,
    document_nats,
    score_documents,
)
from yxanul.evaluate.models.language_model import LanguageModel, in_parts, most_scored
from yxanul.evaluate.ratio import ratio_stderr
from yxanul.model.transformer import Transformer

_BATCH_TOKENS = 4096
"""Of another model's batch; ours has a gate's."""


@dataclass(frozen=True)
class DomainPerplexity:
    """What the documents of one domain cost a model."""

    documents: list[DocumentScore]

    @property
    def bpb(self) -> float:
        """Bits per byte, lower is better."""
        return bits_per_byte(self.documents)

    @property
    def bpb_stderr(self) -> float | None:
        """Standard error of bpb over documents; None for a single one."""
        bits = [one.nats / math.log(2) for one in self.documents]
        return ratio_stderr(bits, [one.bytes for one in self.documents])

    @property
    def loss(self) -> float:
        """Nats per token of the model's own tokenizer."""
        tokens = sum(one.tokens for one in self.documents)
        return math.fsum(one.nats for one in self.documents) / tokens

    @property
    def loss_stderr(self) -> float | None:
        """Standard error of loss over documents; None for a single one."""
        nats = [one.nats for one in self.documents]
        return ratio_stderr(nats, [one.tokens for one in self.documents])

    @property
    def perplexity(self) -> float:
        """exp(loss)."""
        return math.exp(self.loss)


def score_domain(
    model: LanguageModel | Transformer,
    documents: Sequence[np.ndarray],
    *,
    domain: str,
    seq_len: int,
) -> DomainPerplexity:
    """Score held-out documents, each (1 + tokens,) of our ids and beginning with 50256.

    A transformer of ours reads them in the batches of a gate's one process, to the last digit where
    its kernels are the same; another model reads their text in its own tokens. Raises NumericsError
    for a score that is not finite, UsageError for a model without a token to begin a text with.
    """
    if isinstance(model, Transformer):
        scores = score_documents(
            model,
            documents,
            token_bytes=load_tokenizer().token_bytes,
            seq_len=seq_len,
        )
    else:
        scores = _score_texts(model, documents, seq_len=seq_len)
    if not all(math.isfinite(one.nats) for one in scores):
        raise NumericsError(
            f"perplexity: the model's likelihood of {domain} is not a finite number, so its "
            "weights are not; score an older checkpoint"
        )
    return DomainPerplexity(scores)


@torch.no_grad()
def _score_texts(
    model: LanguageModel, documents: Sequence[np.ndarray], *, seq_len: int
) -> list[DocumentScore]:
    texts = _texts(documents)
    ids = _with_beginning(model, texts)

    def read(inputs: Tensor, targets: Tensor) -> Tensor:
        return _nats(model, inputs, targets=targets)

    fitting = min(_BATCH_TOKENS, most_scored(model))
    nats = document_nats(ids, read=read, seq_len=seq_len, batch_tokens=fitting)
    return [
        DocumentScore(float(cost), len(text.encode()), len(tokens) - 1)
        for cost, text, tokens in zip(nats, texts, ids, strict=True)
    ]


def _texts(documents: Sequence[np.ndarray]) -> list[str]:
    """Return the documents' text; one that was cut to its budget may end in half a character."""
    ours = load_tokenizer()
    return [ours.decode_bytes(one[1:].tolist()).decode(errors="ignore") for one in documents]


def _with_beginning(model: LanguageModel, texts: Sequence[str]) -> list[np.ndarray]:
    """Return the texts in the model's ids, after one id of context."""
    begin = model.opening[-1] if model.opening else model.prefix_token
    if begin is None:
        raise UsageError(
            f"perplexity: {model.name} has no token to begin a text with (neither bos nor eos), so "
            "its first token cannot be scored"
        )
    return [np.array([begin, *found], dtype=np.int64) for found in model.encode(texts)]


def _nats(model: LanguageModel, inputs: Tensor, *, targets: Tensor) -> Tensor:
    """Return nats (rows, seq) of the targets, 0 where there is none."""
    flat = targets.flatten()
    picks = (flat != IGNORED).nonzero().squeeze(1)
    nats = torch.zeros(flat.numel(), dtype=torch.float64)
    done = 0
    for logits in in_parts(model.logits(inputs, picks)):
        rows = picks[done : done + len(logits)]
        wanted = flat[rows].to(logits.device)
        cost = torch.nn.functional.cross_entropy(logits.float(), wanted, reduction="none")
        nats[rows] = cost.double().cpu()
        done += len(logits)
    return nats.view(targets.shape)
