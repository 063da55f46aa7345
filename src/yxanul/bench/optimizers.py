"""What an update costs beside its gradients: clipping, and each optimizer's step."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import torch

from yxanul.config.schema import ModelConfig, OptimizerConfig
from yxanul.hardware.device import synchronise
from yxanul.model.transformer import Transformer
from yxanul.optim.optimizers import LearningRates, Optimizers

_RATES = LearningRates(matrices=1e-3, embedding=1e-3, norms=1e-3)
_WARMUP = 2
_WAYS: dict[str, dict[str, Any]] = {
    "adamw": {"name": "adamw", "fused": True},
    "adamw, not fused": {"name": "adamw", "fused": False},
    "muon": {"name": "muon"},
}
"""What each way changes of the configuration."""


@dataclass(frozen=True)
class OptimizerFigures:
    """What one optimizer took on one shape."""

    optimizer: str
    ms: float
    """Median of clipping and step together."""
    state_bytes: int

    def as_json(self) -> dict[str, Any]:
        """Return the figures by name."""
        return asdict(self)


def measure_optimizers(
    shape: ModelConfig,
    config: OptimizerConfig,
    *,
    steps: int,
    device: torch.device,
    dtype: torch.dtype,
    say: Callable[[str], None],
) -> Iterator[OptimizerFigures]:
    """Yield the figures of every optimizer, in the configuration's settings but for its name.

    dtype is the type that Muon iterates in. `say` gets a sentence before each.
    """
    for name, changes in _WAYS.items():
        say(f"{name}: {_WARMUP + steps} updates")
        # In a function of its own: no model and no moments are held beside the next ones.
        ms, state_bytes = _measured(
            shape, config.model_copy(update=changes), steps=steps, device=device, dtype=dtype
        )
        yield OptimizerFigures(name, ms, state_bytes)


def _measured(
    shape: ModelConfig,
    config: OptimizerConfig,
    *,
    steps: int,
    device: torch.device,
    dtype: torch.dtype,
) -> tuple[float, int]:
    """Return the median milliseconds of clipping and step, and the bytes of the state."""
    model = Transformer.initialised(shape, seed=0).to(device)
    optimizers = Optimizers(model, config, muon_dtype=dtype)
    seconds = list(_update_s(model, optimizers, steps=_WARMUP + steps, device=device))
    state = optimizers.state_tensors().values()
    return (
        1e3 * statistics.median(seconds[_WARMUP:]),
        sum(t.numel() * t.element_size() for t in state),
    )


def _update_s(
    model: Transformer, optimizers: Optimizers, *, steps: int, device: torch.device
) -> Iterator[float]:
    """Yield the seconds of updates whose gradients are random numbers."""
    for _ in range(steps):
        for parameter in model.parameters():
            parameter.grad = torch.randn_like(parameter)
        synchronise(device)
        begin = time.perf_counter()
        optimizers.clip_gradients()
        optimizers.step(_RATES)
        synchronise(device)
        yield time.perf_counter() - begin
