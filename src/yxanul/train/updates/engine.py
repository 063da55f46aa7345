"""From settings to what trains: a model with new weights, wrapped, and its optimizers."""

import torch

from yxanul.config.deepspeed import read_deepspeed
from yxanul.config.schema import ModelConfig, OptimizationConfig
from yxanul.hardware.choices import DTYPES
from yxanul.model.transformer import Transformer
from yxanul.optim.adamw import adamw
from yxanul.optim.driven import DrivenOptimizer
from yxanul.optim.groups import grouped_parameters
from yxanul.optim.optimizers import Optimizers
from yxanul.parallel.processes import ALONE, Processes
from yxanul.parallel.wrapping import wrap_in_deepspeed, wrap_model
from yxanul.train.updates.step import Engine


def build_engine(
    shape: ModelConfig,
    optimization: OptimizationConfig,
    *,
    processes: Processes,
    device: torch.device,
) -> tuple[Transformer, Engine]:
    """Return the bare model and the engine around it; every `auto` must have been chosen."""
    compute = optimization.compute
    model = Transformer.initialised(
        shape,
        seed=optimization.seed,
        compute_dtype=DTYPES[compute.precision],
        attention=compute.attention,
        loss_chunk_tokens=_chosen(compute.loss_chunk_tokens),
        mask_documents=compute.document_masking,
        checkpointed_blocks=compute.checkpointed_blocks(shape.num_hidden_layers),
    ).to(device)
    build = _deepspeed_engine if compute.engine == "deepspeed" else _torch_engine
    return model, build(model, optimization, processes=processes, device=device)


def _torch_engine(
    model: Transformer,
    optimization: OptimizationConfig,
    *,
    processes: Processes,
    device: torch.device,
) -> Engine:
    compute = optimization.compute
    return Engine(
        replica=wrap_model(model, compute, processes=processes, device=device),
        optimizers=Optimizers(
            model,
            optimization.optimizer,
            muon_dtype=DTYPES[compute.precision],
            sharing=processes if compute.zero1 else ALONE,
            in_place=processes.world_size > 1,
        ),
        processes=processes,
        device=device,
        micro_batch_tokens=_chosen(compute.micro_batch_tokens),
        masks_documents=compute.document_masking,
    )


def _deepspeed_engine(
    model: Transformer,
    optimization: OptimizationConfig,
    *,
    processes: Processes,
    device: torch.device,
) -> Engine:
    compute = optimization.compute
    groups = grouped_parameters(model.named_parameters())
    replica = wrap_in_deepspeed(
        model,
        compute,
        adamw=adamw(
            {g: list(members.values()) for g, members in groups.items()}, optimization.optimizer
        ),
        settings=read_deepspeed(optimization, precision=compute.precision),
        device=device,
    )
    parameters = {name: p for members in groups.values() for name, p in members.items()}
    return Engine(
        replica=replica,
        optimizers=DrivenOptimizer(replica, parameters, is_main=processes.is_main),
        processes=processes,
        device=device,
        micro_batch_tokens=_chosen(compute.micro_batch_tokens),
        masks_documents=compute.document_masking,
    )


def _chosen(tokens: int | None) -> int:
    if tokens is None:
        raise ValueError("`freeze_compute` must choose what the settings leave open")
    return tokens
