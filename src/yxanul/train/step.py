"""One update: micro-batches, gradients, clipping, optimizer."""

from dataclasses import dataclass

import numpy as np
import torch

from yxanul.errors import NumericsError
from yxanul.optim.optimizers import LearningRates, ModelOptimizer
from yxanul.parallel.processes import Processes
from yxanul.parallel.replica import Replica

ADVICE = "--out NEW --init_from RUN/checkpoints/NAME begins a new run from a run's weights"


@dataclass(frozen=True)
class StepResult:
    """What one update measured before it moved the weights."""

    loss: float
    """Nats per token over the whole step, all ranks."""
    grad_norm: float
    """Joint L2 norm of all gradients before clipping."""


@dataclass(frozen=True)
class Engine:
    """What turns rows into an update: the wrapped model, its optimizers, the ranks, the device."""

    replica: Replica
    optimizers: ModelOptimizer
    processes: Processes
    device: torch.device
    micro_batch_tokens: int


def train_step(
    engine: Engine, batch: tuple[np.ndarray, np.ndarray], *, rates: LearningRates
) -> StepResult:
    """Do one update on this rank's `batch`: inputs and targets, each (rows, seq_len) int64.

    The loss is the mean over the step's tokens however they are cut into micro-batches or ranks. A
    loss or gradient that is not finite is a `NumericsError`, raised before any weight has moved.
    """
    inputs, targets = batch
    rows, seq_len = inputs.shape
    micro_batch = max(1, engine.micro_batch_tokens // seq_len)
    starts = range(0, rows, micro_batch)
    world_size = engine.processes.world_size
    # Ranks have equal rows, and the replica averages their gradients: so the sum here is over this
    # rank's tokens only.
    scale = 1.0 / inputs.size
    total = torch.zeros((), dtype=torch.float64, device=engine.device)
    for start in starts:
        span = slice(start, start + micro_batch)
        tokens = torch.from_numpy(inputs[span]).to(engine.device, non_blocking=True)
        wanted = torch.from_numpy(targets[span]).to(engine.device, non_blocking=True)
        total += engine.replica.accumulate(tokens, wanted, scale=scale, last=start == starts[-1])
    loss = float(engine.processes.total(total * scale)) / world_size
    grad_norm = float(engine.optimizers.clip_gradients())
    if not (np.isfinite(loss) and np.isfinite(grad_norm)):
        raise NumericsError(
            f"the loss ({loss}) or the gradient norm ({grad_norm}) is not finite; the weights were "
            f"not changed. Lower training.learning_rate or set compute.precision=fp32: {ADVICE}"
        )
    engine.optimizers.step(rates)
    return StepResult(loss, grad_norm)
