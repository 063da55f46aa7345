"""How a small model learns one batch, on a CPU or a card: its losses, and its first gradients."""

from dataclasses import dataclass

import pytest
from torch import Tensor

from tests.model.tiny import gradients, rows
from yxanul.config.schema import OptimizerConfig
from yxanul.data.batches.loader import StepRows
from yxanul.model.transformer import Transformer
from yxanul.optim.optimizers import LearningRates, Optimizers
from yxanul.parallel.processes import ALONE
from yxanul.parallel.replica import TorchReplica
from yxanul.train.updates.step import Engine, measure_step, train_step

RATES = LearningRates(3e-3, 3e-3, 3e-3)


@dataclass(frozen=True)
class Learned:
    """Nats per token before each of 50 updates, and the gradients of the first, by name."""

    losses: list[float]
    gradients: dict[str, Tensor]
    """Clipped."""
    grad_norm: float
    """Before clipping: a factor that all gradients share changes nothing else."""


def engine_of(model: Transformer, *, optimizer: str = "adamw") -> Engine:
    return Engine(
        replica=TorchReplica(model),
        optimizers=Optimizers(
            model, OptimizerConfig(name=optimizer), muon_dtype=model.compute_dtype
        ),
        processes=ALONE,
        device=model.embed_tokens.weight.device,
        micro_batch_tokens=4096,
    )


def learned(model: Transformer) -> Learned:
    """Learn one batch of 128 random tokens: the loss falls by far more than half."""
    engine = engine_of(model)
    batch = StepRows.whole(*(part.numpy() for part in rows(4, 32)))
    begin = measure_step(engine, batch)
    first = on_cpu(gradients(model))
    engine.optimizers.step(RATES)
    losses = [train_step(engine, batch, rates=RATES).loss for _ in range(49)]
    return Learned([begin.loss, *losses], first, begin.grad_norm)


def on_cpu(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.float().cpu() for name, tensor in tensors.items()}


def distances(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> dict[str, float]:
    """Return by name how far ours are from theirs, as a part of the norm of theirs."""
    assert ours.keys() == theirs.keys()
    return {n: ((ours[n] - t).norm() / t.norm()).item() for n, t in theirs.items()}


def assert_learned_alike(found: Learned, wanted: Learned, *, gradients_within: float) -> None:
    """A batch is learned, with losses and the norm of all gradients within 2 % of those wanted.

    So is each gradient, by name.
    """
    assert wanted.losses[-1] < 0.5 * wanted.losses[0]
    assert found.losses == pytest.approx(wanted.losses, rel=0.02)
    assert found.grad_norm == pytest.approx(wanted.grad_norm, rel=0.02)
    for name, distance in distances(found.gradients, wanted.gradients).items():
        assert distance < gradients_within, name
