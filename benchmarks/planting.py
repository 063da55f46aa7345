"""A real model and models that are worse by a known amount: what a gate must find.

Two ways to be worse: noise on every weight, or steps of training on the wrong domain. Either is
scaled until a measure has moved by the share that is asked for, over all held-out documents.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch

from yxanul.config.schema import RunConfig
from yxanul.data.batches.validation import PARTS, domain_documents
from yxanul.data.prepared.manifest import Manifest, load_manifest
from yxanul.data.prepared.shards import open_stream
from yxanul.data.tokenizer import load_tokenizer
from yxanul.evaluate.bits_per_byte import score_documents
from yxanul.evaluate.models.loaded import load_model
from yxanul.model.transformer import Transformer

_SEARCH = 10  # halvings: to a thousandth of where the search begins
_RATE, _BATCH, _MOST_STEPS = 3e-4, 8, 256


Weights = dict[str, torch.Tensor]


@dataclass(frozen=True)
class HeldOutText:
    """The held-out documents of a run's older domains, all but those of its last stage."""

    documents: dict[str, list[np.ndarray]]
    judged: dict[str, int]
    """How many of them the run's own gates have, by domain."""
    seq_len: int
    manifest: Manifest
    root: Path

    def nats(self, model: Transformer, domain: str) -> np.ndarray:
        """Return nats per document, (documents,)."""
        scores = score_documents(
            model,
            self.documents[domain],
            token_bytes=load_tokenizer().token_bytes,
            seq_len=self.seq_len,
        )
        return np.asarray([score.nats for score in scores])

    def training_rows(self, domain: str, count: int = 400) -> torch.Tensor:
        """Return the first training text of a domain, (count, seq_len + 1) tokens."""
        source = next(s for s, r in self.manifest.sources.items() if r.domain == domain)
        stream = open_stream(self.manifest, self.root, source=source, split="train")
        length = self.seq_len + 1
        rows = [stream.read(i * length, length) for i in range(count)]
        return torch.from_numpy(np.stack(rows).astype(np.int64))


def held_out_text(run: Path, config: RunConfig, *, seq_len: int, most: int) -> HeldOutText:
    """Read `most` tokens per domain of a run's held-out documents, or what its gates read if more.

    They are cut as the gates of this configuration cut them.
    """
    root = run / "data"
    manifest = load_manifest(root)
    sources = Counter((source.stage, source.domain) for source in manifest.sources.values())
    found: dict[str, list[np.ndarray]] = {}
    judged: dict[str, int] = {}
    for stage in config.stages[:-1]:
        tokens = stage.evaluation.tokens_per_domain
        read = partial(domain_documents, manifest, root, stage=stage.name)
        for domain, documents in read(tokens_per_domain=tokens).items():
            judged[domain] = len(documents)
        for domain, documents in read(tokens_per_domain=max(most, tokens)).items():
            longest = max(2, tokens // sources[stage.name, domain] // PARTS)
            found[domain] = [document[:longest] for document in documents]
    return HeldOutText(found, judged, seq_len, manifest, root)


def open_checkpoint(path: Path) -> Transformer:
    """Load one checkpoint of a run on the CPU, where its noise and its rows are."""
    return load_model(path, device=torch.device("cpu")).model


def with_weight_noise(
    model: Transformer, measure: Callable[[Transformer], float], *, target: float, seed: int = 0
) -> Transformer:
    """Return a copy whose `measure` is `target`, by noise in proportion to each weight's spread.

    measure: how much worse a model is than this one; it grows with the noise.
    """
    generator = torch.Generator().manual_seed(seed)
    noise = {
        name: torch.randn(tensor.shape, generator=generator) * tensor.std()
        for name, tensor in model.state_dict().items()
    }
    start = _weights(model)
    far = {name: start[name] + noise[name] for name in start}
    return _between(model, start, far, reached=(measure, target))


def trained_on(
    model: Transformer,
    measure: Callable[[Transformer], float],
    *,
    target: float,
    rows: torch.Tensor,
) -> Transformer | None:
    """Return a copy whose `measure` is `target`, by training on rows (count, seq + 1) of text.

    None, and a line that says so, when the most steps do not reach it.
    """
    pupil = copy.deepcopy(model)
    optimizer = torch.optim.AdamW(pupil.parameters(), lr=_RATE)
    before = _weights(pupil)
    for step in range(1, _MOST_STEPS + 1):
        batch = rows[(_BATCH * step + torch.arange(_BATCH)) % len(rows)]
        loss = pupil(batch[:, :-1], batch[:, 1:].contiguous()) / batch[:, 1:].numel()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step & (step - 1):  # measured after 1, 2, 4, 8 ... steps
            continue
        if measure(pupil) >= target:
            return _between(model, before, _weights(pupil), reached=(measure, target))
        before = _weights(pupil)
    print(f"not planted: {_MOST_STEPS} steps on other text make the model less than {target} worse")
    return None


def _weights(model: Transformer) -> Weights:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def _between(
    model: Transformer,
    start: Weights,
    end: Weights,
    *,
    reached: tuple[Callable[[Transformer], float], float],
) -> Transformer:
    """Return a copy on the line between two sets of weights, where the measure is the target."""
    measure, target = reached
    found = copy.deepcopy(model)
    low, high = 0.0, 1.0
    for _ in range(_SEARCH):
        at = (low + high) / 2
        found.load_state_dict({name: torch.lerp(start[name], end[name], at) for name in start})
        low, high = (at, high) if measure(found) < target else (low, at)
    return found
