"""One update: micro-batches, gradients, clipping, optimizer."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from yxanul.config.optimization import MASKLESS
from yxanul.config.schema import ComputeConfig
from yxanul.data.batches.loader import StepRows
from yxanul.errors import NumericsError
from yxanul.failpoints import planted
from yxanul.optim.optimizers import LearningRates, ModelOptimizer
from yxanul.parallel.processes import Processes
from yxanul.parallel.replica import Replica

ADVICE = "--out NEW --init_from RUN/checkpoints/NAME begins a new run from a run's weights"


@dataclass(frozen=True)
class StepResult:
    """What one update measured before it moved the weights."""

    loss: float
    """Nats per target over the whole step, all ranks."""
    grad_norm: float
    """Joint L2 norm of all gradients before clipping; of several ranks the largest."""


@dataclass(frozen=True)
class Engine:
    """What turns rows into an update: the wrapped model, its optimizers, the ranks, the device."""

    replica: Replica
    optimizers: ModelOptimizer
    processes: Processes
    device: torch.device
    micro_batch_tokens: int
    masks_documents: bool = False
    """Whether the model is told where documents begin."""


def train_step(engine: Engine, batch: StepRows, *, rates: LearningRates) -> StepResult:
    """Do one update on this rank's `batch`.

    A loss or gradient that is not finite is a `NumericsError`, raised before any weight has moved.
    """
    result = measure_step(engine, batch)
    refuse_not_finite(result)
    engine.optimizers.step(rates)
    return result


def refuse_not_finite(result: StepResult) -> None:
    """Raise a `NumericsError` for gradients that must not move a weight."""
    if not (np.isfinite(result.loss) and np.isfinite(result.grad_norm)):
        raise NumericsError(
            f"the loss ({result.loss}) or the gradient norm ({result.grad_norm}) is not finite; "
            "the weights were not changed. Lower training.learning_rate or set "
            f"compute.precision=fp32: {ADVICE}"
        )


def measure_step(
    engine: Engine, batch: StepRows, *, meanwhile: Callable[[], None] | None = None
) -> StepResult:
    """Compute the gradients of this rank's `batch` and clip them; no weight is moved.

    The loss is the mean over the step's targets however they are cut into micro-batches or ranks.
    `meanwhile` is called once all is launched, when the host has nothing to do but wait for a card.
    """
    rows, seq_len = batch.inputs.shape
    micro_batch = max(1, engine.micro_batch_tokens // seq_len)
    starts = range(0, rows, micro_batch)
    world_size = engine.processes.world_size
    # The replica averages the gradients of the ranks, which may hold unequal amounts of padding.
    scale = planted("step.scale", world_size / batch.counted)
    total = torch.zeros((), dtype=torch.float64, device=engine.device)
    inputs, targets = (_brought(part, engine.device) for part in (batch.inputs, batch.targets))
    for start in starts:
        span = slice(start, start + micro_batch)
        total += engine.replica.accumulate(
            inputs[span],
            targets[span],
            bounds=_brought(batch.bounds(span), engine.device) if engine.masks_documents else None,
            scale=scale,
            last=start == starts[-1],
        )
    nats = engine.processes.total(total * scale)
    # Every rank takes it of gradients that are the same everywhere, but one whose arithmetic fails
    # would skip the step alone, and the others would wait for it for ever.
    norm = engine.processes.largest(engine.optimizers.clip_gradients())
    if meanwhile is not None:
        meanwhile()
    loss, grad_norm = _read(nats, norm)
    return StepResult(loss / world_size, grad_norm)


def attended_tokens(rows: StepRows, compute: ComputeConfig) -> float:
    """Return the tokens that attention goes over for one of `rows`: its row's, or its document's.

    Causal or not, as in the PaLM convention of `flops_per_token`.
    """
    if compute.document_masking and compute.attention in MASKLESS:
        return rows.document_tokens()
    return float(rows.inputs.shape[1])


def _read(*values: torch.Tensor) -> list[float]:
    """Return 0-D tensors as numbers, in the first one's type and in one exchange with the device.

    A card has nothing to do from when the host waits for it until the host has launched more.
    """
    found: list[float] = torch.stack([value.to(values[0]) for value in values]).tolist()
    return found


def _brought(rows: npt.NDArray[Any], device: torch.device) -> torch.Tensor:
    """Return rows on the device; the host does not wait until they are there."""
    tensor = torch.from_numpy(rows)
    if device.type == "cpu":
        return tensor
    # From other memory each copy would wait for all that the card still has to do.
    return tensor.pin_memory().to(device, non_blocking=True)
