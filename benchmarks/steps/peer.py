"""What the re-stated peers share: micro-batches as tensors, and their FLOPs."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from yxanul.bench.workload import Batch, StepRun, Workload

LossOf = Callable[[Tensor, Tensor], Tensor]
"""(rows, seq_len) tokens and targets -> the mean loss, 0-D."""


def described(name: str, model: nn.Module, workload: Workload) -> StepRun:
    """Return an empty run of `model`, whose products are those of its nn.Linear modules.

    6 operations per parameter of a product and 12 T hidden_size per layer (PaLM, arXiv 2204.02311).
    """
    products = sum(part.weight.numel() for part in model.modules() if isinstance(part, nn.Linear))
    shape = workload.model
    attention = 12 * shape.num_hidden_layers * shape.hidden_size * workload.seq_len
    return StepRun(
        name=name,
        parameters=sum(p.numel() for p in model.parameters()),
        flops_per_token=6 * products + attention,
    )


def accumulate(loss_of: LossOf, batch: Batch, workload: Workload) -> Tensor:
    """Add the gradients of one update's micro-batches; return the mean loss, 0-D, no gradient."""
    total = torch.zeros((), device=workload.device)
    for tokens, targets in _micro_batches(batch, workload):
        loss = loss_of(tokens, targets) * (tokens.size(0) / workload.rows)
        loss.backward()  # type: ignore[no-untyped-call]
        total += loss.detach()
    return total


def _micro_batches(batch: Batch, workload: Workload) -> Iterator[tuple[Tensor, Tensor]]:
    for start in range(0, workload.rows, workload.micro_rows):
        parts = [torch.from_numpy(side[start : start + workload.micro_rows]) for side in batch]
        if workload.device.type == "cuda":
            parts = [part.pin_memory() for part in parts]
        tokens, targets = (part.to(workload.device, non_blocking=True) for part in parts)
        yield tokens, targets
