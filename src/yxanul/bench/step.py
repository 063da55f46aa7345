"""How fast this machine trains a shape: whole updates, beside the products that it can do."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

import torch

from yxanul.bench.updates import time_updates
from yxanul.bench.workload import Workload
from yxanul.config.schema import ModelConfig, OptimizationConfig
from yxanul.errors import UsageError
from yxanul.hardware.choices import DTYPES, freeze_compute
from yxanul.hardware.device import device_name, memory_bytes
from yxanul.hardware.peak import gemm_flops, peak_flops
from yxanul.plan.memory import (
    ASSUMED_TOKENS,
    CARD_SHARE,
    ENOUGH_TOKENS,
    Update,
    update_memory,
)
from yxanul.plan.parameters import parameter_count
from yxanul.train.probing.probes import first_that_fits, halves
from yxanul.train.probing.timing import milliseconds

_CARD_PRODUCT = (32_768, 768, 3072)


@dataclass(frozen=True)
class StepFigures:
    """What updates of one shape took, and in which settings."""

    model: str
    parameters: int
    device: str
    seq_len: int
    micro_batch: int
    """Rows of a forward pass; of `bench step` a whole update."""
    precision: str
    attention: str
    compiled: str
    fp8: str
    """As timed; auto is off, since only a run's first start on a card tries it."""
    optimizer: str
    threads: int
    """Of the CPU."""
    checkpointed_blocks: int
    """Blocks that were recomputed."""
    first_s: float
    """The first update, with whatever it compiles."""
    optimizer_s: float
    """Of a later update, what the optimizers' own step takes."""
    tokens_per_s: float
    flops_per_token: int
    """Forward and backward, PaLM convention."""
    gemm_flops: float
    """FLOP/s of matrix products in that precision, measured in the same process."""
    mfu: float | None
    """Of gemm_flops on a CPU, of a card's dense bf16 peak; null on an unknown card."""
    peak_bytes: int | None
    recompiles: int | None
    """Graphs that were made after the first update, 0 where all is well; null: none are made."""

    def as_json(self) -> dict[str, Any]:
        """Return the figures by name."""
        return asdict(self)


def step_workload(
    shape: ModelConfig,
    optimization: OptimizationConfig,
    *,
    seq_len: int,
    micro_batch: int | None,
    steps: int,
    device: torch.device,
) -> Workload:
    """Return `steps` updates after three that warm up, of so many rows or of as many as by rule.

    A length over the model's context is a `UsageError`, and so is another engine than torch's.
    """
    longest = shape.max_position_embeddings
    if seq_len > longest:
        raise UsageError(
            f"--seq_len {seq_len:,} is over max_position_embeddings {longest:,} of {shape.name}"
        )
    if optimization.compute.engine != "torch":
        raise UsageError(
            "bench step times one process in torch's engine; leave compute.engine="
            f"{optimization.compute.engine} out"
        )
    load = load_by_rule(shape, optimization, seq_len=seq_len, device=device)
    rows = micro_batch or load.rows
    return replace(load, rows=rows, micro_rows=rows, steps=steps)


def measure_load(load: Workload, *, optimization: OptimizationConfig) -> StepFigures:
    """Time the updates of a workload in torch's engine, under settings that are `settled` for it.

    The product's rate is taken before and after, and the better one counts: a busy moment must not
    make the updates look better. The process is prepared as a run's (`prepare_process`).
    """
    device, dtype = load.device, load.dtype
    compute = optimization.compute
    torch.set_num_threads(compute.threads or 1)
    before = _product_rate(device, dtype)
    run = time_updates("ours", load, optimization=optimization)
    products = max(before, _product_rate(device, dtype))
    peak = products if device.type == "cpu" else peak_flops(device, dtype)
    assert run.optimizer_s is not None  # ours is timed apart
    return StepFigures(
        model=load.model.name,
        parameters=run.parameters,
        device=device_name(device),
        seq_len=load.seq_len,
        micro_batch=load.micro_rows,
        precision=compute.precision,
        attention=compute.attention,
        compiled=compute.compile,
        fp8=compute.fp8,
        optimizer=optimization.optimizer.name,
        threads=torch.get_num_threads(),
        checkpointed_blocks=compute.checkpointed_blocks(load.model.num_hidden_layers),
        first_s=run.first_s,
        optimizer_s=run.optimizer_s,
        tokens_per_s=run.tokens_per_s(load),
        flops_per_token=run.flops_per_token,
        gemm_flops=products,
        mfu=None if peak is None else run.mfu(load, peak),
        peak_bytes=run.peak_bytes,
        recompiles=None if compute.compile == "off" else run.recompiles,
    )


def load_by_rule(
    shape: ModelConfig, optimization: OptimizationConfig, *, seq_len: int, device: torch.device
) -> Workload:
    """Return updates of one pass of a run's micro-batch, in the run's precision.

    The micro-batch is as asked for; else, on a card, what fits by arithmetic in these settings, as
    a plan has it: at most 32,768 tokens. What this device cannot do is a `UsageError`.
    """
    frozen = freeze_compute(
        optimization.compute,
        shape,
        parameters=parameter_count(shape).total,
        device=device,
        longest_seq_len=seq_len,
    )
    tokens = frozen.micro_batch_tokens or seq_len
    if optimization.compute.micro_batch_tokens is None and device.type == "cuda":
        chosen = optimization.model_copy(update={"compute": frozen})
        most = ENOUGH_TOKENS if optimization.compute.is_share_open else ASSUMED_TOKENS
        fitting = first_that_fits(
            halves(most, seq_len),
            lambda tokens: (
                update_memory(shape, chosen, update=Update(tokens, seq_len, accumulates=True)).total
            ),
            limit=CARD_SHARE * memory_bytes(device),
            agree=bool,
        )
        tokens = fitting or seq_len
    rows = max(1, tokens // seq_len)
    return Workload(shape, seq_len, rows, rows, device, DTYPES[frozen.precision])


def _product_rate(device: torch.device, dtype: torch.dtype) -> float:
    if device.type == "cpu":
        return gemm_flops(dtype)
    rows, inside, columns = _CARD_PRODUCT
    left = torch.randn(rows, inside, device=device, dtype=dtype)
    right = torch.randn(inside, columns, device=device, dtype=dtype)
    return 2e3 * rows * inside * columns / milliseconds(lambda: left @ right)
