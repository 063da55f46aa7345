"""An export is held against the model: the same ids, the same logits, the same perplexity.

The one idea: what was written is read back by whoever will read it, through one small interface,
and compared on fixed texts. An export that differs is not an export.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from yxanul.data.tokenizer import EOT, Tokenizer
from yxanul.errors import ExportCheckError
from yxanul.export.samples import PROMPTS, STRESS
from yxanul.model.transformer import Transformer


@dataclass(frozen=True)
class Subject:
    """What is exported, and the text that it is compared on."""

    model: Transformer
    """Weights and products in fp32."""
    tokenizer: Tokenizer
    held_out: Sequence[Sequence[int]]
    """Ids of held-out documents, each beginning with 50256."""


class Reader(Protocol):
    """What was written, as one library reads it."""

    @property
    def name(self) -> str:
        """The library and its version."""

    def encode(self, text: str) -> list[int]:
        """Return the ids of a text, nothing added."""

    def logits(self, ids: Sequence[int]) -> Tensor:
        """Return (seq, vocab) fp32 logits."""


@dataclass(frozen=True)
class Tolerance:
    """How far an export may be from the model."""

    logits: float
    """Largest difference of a logit, relative to the largest |logit| of the prompt."""
    perplexity: float
    """Relative difference of the perplexity."""


@dataclass(frozen=True)
class Check:
    """One comparison, which held."""

    reader: str
    name: str
    figure: float
    """Of ids: the texts compared; else the difference that was found."""
    told: str

    def as_json(self) -> dict[str, str | float]:
        """Return the fields by name."""
        return {"reader": self.reader, "check": self.name, "figure": self.figure}


def compare(subject: Subject, reader: Reader, *, within: Tolerance) -> Iterator[Check]:
    """Yield each comparison that held; the first that does not is an `ExportCheckError`."""
    yield _same_ids(subject, reader)
    yield _same_logits(subject, reader, most=within.logits)
    if subject.held_out:
        yield _same_perplexity(subject, reader, most=within.perplexity)


def _same_ids(subject: Subject, reader: Reader) -> Check:
    texts = (*STRESS, "".join(STRESS), *PROMPTS)
    for text in texts:
        ours, theirs = subject.tokenizer.encode(text), reader.encode(text)
        if ours != theirs:
            pairs = enumerate(zip(ours, theirs, strict=False))
            at = next((n for n, (mine, other) in pairs if mine != other), len(ours))
            raise ExportCheckError(
                f"{reader.name} makes other ids of {text[:40]!r}: {theirs[at : at + 3]} where the "
                f"model was trained with {ours[at : at + 3]}"
            )
    return Check(reader.name, "token ids", len(texts), f"the same ids for {len(texts)} texts")


def _same_logits(subject: Subject, reader: Reader, *, most: float) -> Check:
    worst = 0.0
    for prompt in PROMPTS:
        ids = _fitting(subject, [EOT, *subject.tokenizer.encode(prompt)])
        ours, theirs = _logits(subject.model, ids), reader.logits(ids)
        if theirs.shape != ours.shape:
            raise ExportCheckError(
                f"{reader.name} gives logits of shape {tuple(theirs.shape)}, and the model "
                f"{tuple(ours.shape)}"
            )
        worst = max(worst, _largest((theirs - ours).abs() / ours.abs().max()))
    if worst > most:
        raise ExportCheckError(
            f"{reader.name} gives other logits: they differ by {worst:.1e} of the largest, and "
            f"{most:.0e} is the most that rounding explains"
        )
    told = f"logits within {worst:.1e} of the largest, over {len(PROMPTS)} prompts"
    return Check(reader.name, "logits", worst, told)


def _same_perplexity(subject: Subject, reader: Reader, *, most: float) -> Check:
    ours = theirs = 0.0
    tokens = 0
    for document in subject.held_out:
        ids = _fitting(subject, document)
        ours += _nats(_logits(subject.model, ids), ids)
        theirs += _nats(reader.logits(ids), ids)
        tokens += len(ids) - 1
    if not tokens or not math.isfinite(ours):
        raise ExportCheckError("the held-out text gives the model no finite perplexity")
    before, after = math.exp(ours / tokens), math.exp(min(theirs / tokens, 700.0))
    change = abs(after / before - 1)
    if not change <= most:
        raise ExportCheckError(
            f"{reader.name}: the perplexity of {tokens:,} held-out tokens is {after:.5g}, and the "
            f"model's {before:.5g}"
        )
    told = f"perplexity {after:.5g} of {tokens:,} held-out tokens, the model's is {before:.5g}"
    return Check(reader.name, "perplexity", change, told)


def _fitting(subject: Subject, ids: Sequence[int]) -> list[int]:
    return list(ids)[: subject.model.config.max_position_embeddings]


def _nats(logits: Tensor, ids: Sequence[int]) -> float:
    targets = torch.tensor(ids[1:])
    return float(F.cross_entropy(logits[:-1].double(), targets, reduction="sum"))


@torch.no_grad()
def _logits(model: Transformer, ids: Sequence[int]) -> Tensor:
    hidden = model.hidden_states(torch.tensor([list(ids)]))
    return model.logits(hidden)[0].float()


def _largest(differences: Tensor) -> float:
    """Return the largest; nan counts as infinite, so that it is never the smaller one."""
    return float(differences.nan_to_num(nan=math.inf).max())
