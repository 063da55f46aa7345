"""One rank's copy of the model, and how its gradients come to be those of all ranks."""

from contextlib import AbstractContextManager, nullcontext
from typing import Protocol

from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel


class Replica(Protocol):
    """What an update needs of an engine."""

    def accumulate(
        self, tokens: Tensor, targets: Tensor, *, bounds: Tensor | None, scale: float, last: bool
    ) -> Tensor:
        """Add the gradients of a micro-batch, (rows, seq) int64 twice; return its nats, 0-D.

        `bounds` are the model's, None where it masks no documents. The nats are multiplied by
        `scale` for the gradient. After an update's `last` micro-batch the gradients are the mean
        over all ranks.
        """


class TorchReplica:
    """torch's own engine: the bare model alone, or DistributedDataParallel around it."""

    def __init__(self, module: nn.Module) -> None:
        self.module = module

    def accumulate(
        self, tokens: Tensor, targets: Tensor, *, bounds: Tensor | None, scale: float, last: bool
    ) -> Tensor:
        """Add the gradients of a micro-batch; they are exchanged once, with the last."""
        with nullcontext() if last else _without_exchange(self.module):
            nats: Tensor = self.module(tokens, targets, bounds=bounds)
            (nats * scale).backward()  # type: ignore[no-untyped-call]
        return nats.detach()


def _without_exchange(module: nn.Module) -> AbstractContextManager[None]:
    if not isinstance(module, DistributedDataParallel):
        return nullcontext()
    quiet: AbstractContextManager[None] = module.no_sync()
    return quiet
