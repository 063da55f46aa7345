"""From settings to what trains: a model with new weights, wrapped, and its optimizers."""

import torch

from yxanul.config.schema import ModelConfig, OptimizationConfig
from yxanul.hardware.choices import DTYPES
from yxanul.model.fp8 import use_fp8
from yxanul.model.transformer import Transformer
from yxanul.optim.optimizers import Optimizers
from yxanul.parallel.processes import Processes
from yxanul.parallel.wrapping import wrap_model
from yxanul.train.step import Engine


def build_engine(
    shape: ModelConfig,
    optimization: OptimizationConfig,
    *,
    processes: Processes,
    device: torch.device,
) -> tuple[Transformer, Engine]:
    """Return the bare model and the engine around it; every `auto` must have been chosen."""
    # In this order: FP8, then compile, then parallel (yxanul.parallel.wrapping).
    compute = optimization.compute
    dtype = DTYPES[compute.precision]
    model = Transformer.initialised(
        shape,
        seed=optimization.seed,
        compute_dtype=dtype,
        attention=compute.attention,
        loss_chunk_tokens=_chosen(compute.loss_chunk_tokens),
        gradient_checkpointing=compute.gradient_checkpointing,
    ).to(device)
    if compute.fp8 != "off":
        part, emulate = compute.fp8, compute.fp8_emulate
        use_fp8(model.layers, part, recipe=compute.fp8_recipe, emulate=emulate)
    engine = Engine(
        model=wrap_model(model, compute, processes=processes, device=device),
        optimizers=Optimizers(model, optimization.optimizer, muon_dtype=dtype),
        processes=processes,
        device=device,
        micro_batch_tokens=_chosen(compute.micro_batch_tokens),
    )
    return model, engine


def _chosen(tokens: int | None) -> int:
    if tokens is None:
        raise ValueError("`freeze_compute` must choose what the settings leave open")
    return tokens
