"""How fast this machine trains a shape: whole updates, beside the products that it can do."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch

from yxanul.bench.updates import settled, time_updates
from yxanul.bench.workload import Workload
from yxanul.config.schema import ComputeConfig, ModelConfig, OptimizationConfig
from yxanul.errors import UsageError
from yxanul.hardware.choices import DTYPES, freeze_compute
from yxanul.hardware.device import device_name, memory_bytes
from yxanul.hardware.memory import is_out_of_memory
from yxanul.hardware.peak import gemm_flops, peak_flops
from yxanul.plan.memory import (
    ASSUMED_TOKENS,
    CARD_SHARE,
    ENOUGH_TOKENS,
    Update,
    update_memory,
)
from yxanul.train.probing.probes import halves
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


def measure_fitting(
    load: Workload, *, optimization: OptimizationConfig, is_asked: bool = False
) -> tuple[Workload, StepFigures]:
    """Time the updates of a load, every `auto` by rule; return those that were timed.

    On a card that has no room for what arithmetic took, more blocks are recomputed and passes are
    halved, as a run's trial does; but for what the settings say, or a load that `is_asked` for.
    """
    *others, last = _attempts(load, optimization, is_asked=is_asked)
    _free()
    for tried, settings in others:
        try:
            return tried, measure_load(tried, optimization=settings)
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
        # The error is gone, and with it what its frames held.
        torch.compiler.reset()  # or blocks are compiled for passes of any size
        _free()
    tried, settings = last
    return tried, measure_load(tried, optimization=settings)


def _free() -> None:
    """Give a card back what earlier models held: compiled ones are circles until looked for."""
    gc.collect()
    torch.cuda.empty_cache()


def _attempts(
    load: Workload, optimization: OptimizationConfig, *, is_asked: bool
) -> Iterator[tuple[Workload, OptimizationConfig]]:
    """Yield a load in its settings by rule, then what needs less and less of a card."""
    passes, sizes = load.rows // load.micro_rows, [load.micro_tokens]
    if _are_tokens_open(optimization, load.device) and not is_asked:
        sizes = list(halves(load.micro_tokens, load.seq_len))
    for tokens in sizes:
        rows = tokens // load.seq_len
        tried = replace(load, rows=passes * rows, micro_rows=rows)
        settings = settled(optimization, tried)
        yield tried, settings
        compute = settings.compute
        if compute.checkpointed_share not in (optimization.compute.checkpointed_share, 1.0):
            whole = compute.model_copy(update={"checkpointed_share": 1.0})
            yield tried, settings.model_copy(update={"compute": whole})


def load_by_rule(
    shape: ModelConfig, optimization: OptimizationConfig, *, seq_len: int, device: torch.device
) -> Workload:
    """Return updates of one pass of a run's micro-batch, in the run's precision.

    The micro-batch is as asked for; else, on a card, what fits by arithmetic in these settings, as
    a plan has it: at most 32,768 tokens, and over 16,384 only where an open share of recomputed
    blocks is then one block. What this device cannot do is a `UsageError`.
    """
    frozen = freeze_compute(optimization.compute, device, longest_seq_len=seq_len)
    tokens = frozen.micro_batch_tokens or seq_len
    if _are_tokens_open(optimization, device):
        tokens = _fitting_tokens(
            shape,
            optimization.model_copy(update={"compute": frozen}),
            is_share_open=optimization.compute.is_share_open,
            seq_len=seq_len,
            limit=CARD_SHARE * memory_bytes(device),
        )
    rows = max(1, tokens // seq_len)
    return Workload(shape, seq_len, rows, rows, device, DTYPES[frozen.precision])


def _are_tokens_open(optimization: OptimizationConfig, device: torch.device) -> bool:
    """Tell whether a run would try how many tokens of a pass fit."""
    return optimization.compute.micro_batch_tokens is None and device.type == "cuda"


def _fitting_tokens(
    shape: ModelConfig,
    optimization: OptimizationConfig,
    *,
    is_share_open: bool,
    seq_len: int,
    limit: float,
) -> int:
    """Return the tokens of a pass that need at most `limit` bytes, in the order of a run's trial.

    Where not even one sequence fits, it is one.
    """
    compute = optimization.compute
    most = ENOUGH_TOKENS if is_share_open else ASSUMED_TOKENS
    tries = [(tokens, compute) for tokens in halves(most, seq_len)]
    if is_share_open:
        least = {"checkpointed_share": 1 / shape.num_hidden_layers}
        spared = compute.model_copy(update=least)
        tries.insert(0, (next(halves(ASSUMED_TOKENS, seq_len)), spared))

    def fits(tokens: int, tried: ComputeConfig) -> bool:
        settings = optimization.model_copy(update={"compute": tried})
        update = Update(tokens, seq_len, accumulates=True)
        return update_memory(shape, settings, update=update).total <= limit

    return next((tokens for tokens, tried in tries if fits(tokens, tried)), seq_len)


def _product_rate(device: torch.device, dtype: torch.dtype) -> float:
    if device.type == "cpu":
        return gemm_flops(dtype)
    rows, inside, columns = _CARD_PRODUCT
    left = torch.randn(rows, inside, device=device, dtype=dtype)
    right = torch.randn(inside, columns, device=device, dtype=dtype)
    return 2e3 * rows * inside * columns / milliseconds(lambda: left @ right)
