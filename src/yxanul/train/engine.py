"""From settings to what trains: a model with new weights, wrapped, and its optimizers."""

import torch

from yxanul.config.schema import ModelConfig, OptimizationConfig
from yxanul.hardware.choices import DTYPES
from yxanul.model.transformer import Transformer
from yxanul.optim.optimizers import Optimizers
from yxanul.parallel.processes import ALONE, Processes
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
    engine = Engine(
        model=wrap_model(model, compute, processes=processes, device=device),
        optimizers=Optimizers(
            model,
            optimization.optimizer,
            muon_dtype=dtype,
            sharing=processes if compute.zero1 else ALONE,
        ),
        processes=processes,
        device=device,
        micro_batch_tokens=_chosen(compute.micro_batch_tokens),
    )
    return model, engine


def _chosen(tokens: int | None) -> int:
    if tokens is None:
        raise ValueError("`freeze_compute` must choose what the settings leave open")
    return tokens
