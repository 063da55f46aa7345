"""The one place that fixes the order in which a model is wrapped: FP8, compile, parallel.

Whatever the order wraps, names of parameters in checkpoints are those of the bare model.
"""

from typing import Protocol, cast

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from yxanul.config.schema import ComputeConfig
from yxanul.errors import MissingExtraError
from yxanul.parallel.processes import Processes


def refuse_missing_engine(compute: ComputeConfig) -> None:
    """Raise for an engine that this version does not drive."""
    if compute.engine == "deepspeed":
        raise MissingExtraError(
            "the DeepSpeed engine is not part of this version; its extra will be "
            "yxanul[deepspeed]. Start the same stage with torchrun (scripts/train_stage1.sh) or "
            "set compute.engine=torch"
        )


class Wrappable(Protocol):
    """A model that knows how to round and compile its own training pass."""

    def round_products(self, part: str, *, recipe: str, emulate: bool) -> None:
        """Multiply in FP8 in a part, compute.fp8's value."""

    def compile_training(self, how: str) -> None:
        """Compile by `how`, one of compute.compile's values."""


def wrap_model(
    model: nn.Module, compute: ComputeConfig, *, processes: Processes, device: torch.device
) -> nn.Module:
    """Return the model itself for one process, else the wrapper that averages gradients."""
    bare = cast("Wrappable", model)
    if compute.fp8 != "off":
        bare.round_products(compute.fp8, recipe=compute.fp8_recipe, emulate=compute.fp8_emulate)
    bare.compile_training(compute.compile)
    if processes.world_size == 1:
        return model
    ids = [device.index] if device.type == "cuda" else None
    return DistributedDataParallel(model, device_ids=ids, gradient_as_bucket_view=True)
