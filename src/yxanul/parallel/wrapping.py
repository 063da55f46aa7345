"""The one place that fixes the order in which a model is wrapped: FP8, compile, parallel.

Whatever the order wraps, names of parameters in checkpoints are those of the bare model.
"""

from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any, Protocol, cast

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from yxanul.config.schema import ComputeConfig
from yxanul.errors import MissingExtraError
from yxanul.parallel.compiling import leave_blocks_whole, start_compilers
from yxanul.parallel.deepspeed import DeepSpeedReplica
from yxanul.parallel.processes import Processes
from yxanul.parallel.replica import TorchReplica


def refuse_missing_engine(compute: ComputeConfig) -> None:
    """Raise for an engine whose package is not installed."""
    if compute.engine == "deepspeed" and find_spec("deepspeed") is None:
        raise MissingExtraError(
            "the DeepSpeed engine needs the package deepspeed: pip install 'yxanul[deepspeed]', or "
            "start the same stage with torchrun and without --deepspeed, whose --set "
            "compute.zero1=true shares the optimizer's state as well"
        )


class Wrappable(Protocol):
    """A model that knows how to round and compile its own training pass."""

    def round_products(self, part: str, *, recipe: str, emulate: bool) -> None:
        """Multiply in FP8 in a part, compute.fp8's value."""

    def compile_training(self, how: str) -> None:
        """Compile by `how`, one of compute.compile's values."""


def wrap_model(
    model: nn.Module, compute: ComputeConfig, *, processes: Processes, device: torch.device
) -> TorchReplica:
    """Return the model in torch's engine: itself alone, else with gradients averaged over ranks."""
    _transform(model, compute, device=device)
    if processes.world_size == 1:
        return TorchReplica(model)
    if compute.compile == "block":
        leave_blocks_whole()
    ids = [device.index] if device.type == "cuda" else None
    for parameter in model.parameters():
        # Gradients that are there from the start are laid into the buckets; those of a first pass
        # would lie beside them, all of a model's once more.
        parameter.grad = torch.zeros_like(parameter)
    return TorchReplica(
        DistributedDataParallel(
            model,
            device_ids=ids,
            gradient_as_bucket_view=True,
            broadcast_buffers=False,  # tables of angles, which every rank has made for itself
        )
    )


def wrap_in_deepspeed(
    model: nn.Module,
    compute: ComputeConfig,
    *,
    adamw: torch.optim.AdamW,
    settings: Mapping[str, Any],
    device: torch.device,
) -> DeepSpeedReplica:
    """Return the model in DeepSpeed's engine, which from then on drives `adamw`."""
    _transform(model, compute, device=device)
    return DeepSpeedReplica(model, adamw, settings=settings, device=device)


def _transform(model: nn.Module, compute: ComputeConfig, *, device: torch.device) -> None:
    bare = cast("Wrappable", model)
    if compute.fp8 != "off":
        bare.round_products(compute.fp8, recipe=compute.fp8_recipe, emulate=compute.fp8_emulate)
    if compute.compile != "off" and device.type == "cuda":
        start_compilers()
    bare.compile_training(compute.compile)
