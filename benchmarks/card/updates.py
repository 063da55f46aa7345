"""Whole updates on the card: compilation, lengths, micro-batches, a small card's memory, peers.

Sections yield `every` row, or those only that tell what no other row of the whole table does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from typing import Any, Literal

import torch

from benchmarks.card.section import RECOMPILED, Row, Work, forget
from benchmarks.steps.nanochat import nanochat
from benchmarks.steps.nanogpt import nanogpt
from yxanul.bench.updates import settled, time_updates
from yxanul.bench.workload import StepRun, Workload
from yxanul.bench.workload import shape as named_shape
from yxanul.cards import card_of_device
from yxanul.config.schema import (
    ComputeConfig,
    ModelConfig,
    OptimizationConfig,
    OptimizerConfig,
)
from yxanul.hardware.choices import flash3_obstacle
from yxanul.hardware.compiler import compile_obstacle
from yxanul.parallel.compiling import graphs_made
from yxanul.plan.flops import flops_per_token
from yxanul.plan.memory import Update, update_memory

MICRO_TOKENS = 32_768
STEP_TOKENS = 65_536
"""Tokens of an update on one card of eight, at the promised 524,288 in all."""


def workload(
    shape: ModelConfig,
    seq_len: int,
    device: torch.device,
    *,
    micro_tokens: int = MICRO_TOKENS,
    steps: int = 12,
) -> Workload:
    """Return updates of `STEP_TOKENS` tokens in micro-batches."""
    return Workload(
        model=shape,
        seq_len=seq_len,
        rows=STEP_TOKENS // seq_len,
        micro_rows=micro_tokens // seq_len,
        device=device,
        dtype=torch.bfloat16,
        steps=steps,
    )


def settings(optimizer: Literal["adamw", "muon"] = "adamw", **compute: Any) -> OptimizationConfig:
    """Return settings that differ from the defaults in `compute` and the optimizer's name."""
    return OptimizationConfig(
        compute=ComputeConfig(**compute), optimizer=OptimizerConfig(name=optimizer)
    )


def compilations(
    shape: ModelConfig, device: torch.device, how: str, *, every: bool
) -> Iterator[tuple[Row, Work]]:
    """Yield updates at 2,048 tokens without torch.compile, per block and whole."""
    load = workload(shape, 2048, device)
    few = ("off",) if how == "block" else ("off", "block")
    for way in ("off", "block", "model") if every else few:
        yield {"compile": way}, partial(measured, load, settings(compile=way))
    # Graphs are dropped and made again; what was compiled, here or in the table of lengths, lies in
    # the cache on disk.
    yield {"compile": "block, warm cache"}, partial(measured, load, settings(compile="block"))


def lengths(shape: ModelConfig, device: torch.device, how: str) -> Iterator[tuple[Row, Work]]:
    """Yield updates at every sequence length of the promised curriculum."""
    for seq_len in (512, 1024, 2048, 4096):
        load = workload(shape, seq_len, device)
        yield {"seq_len": seq_len}, partial(measured, load, settings(compile=how))


def documents(
    shape: ModelConfig, device: torch.device, how: str, *, every: bool
) -> Iterator[tuple[Row, Work]]:
    """Yield updates whose rows hold documents of 512 tokens in the mean, apart and not."""
    load = replace(workload(shape, 2048, device, steps=8), document_tokens=512)
    ways = [("flash", False), ("flash", True), ("efficient", True)]
    if every:
        ways.insert(0, ("cudnn", False))
    if flash3_obstacle(device) is None:
        ways += [("flash3", False), ("flash3", True)] if every else [("flash3", True)]
    for kernel, apart in ways:
        wish = settings(compile=how, attention=kernel, document_masking=apart)
        yield (
            {"attention": kernel, "documents": "apart" if apart else "joined"},
            partial(measured, load, wish),
        )


def micro_batches(
    shape: ModelConfig, device: torch.device, how: str, *, every: bool
) -> Iterator[tuple[Row, Work]]:
    """Yield updates of equal size in micro-batches of several sizes, with memory as predicted."""
    for tokens in (8192, 16_384, MICRO_TOKENS, 65_536):
        if tokens == MICRO_TOKENS and not every:
            continue
        load = workload(shape, 2048, device, micro_tokens=tokens, steps=6)
        yield (
            {"micro_batch_tokens": tokens},
            partial(measured, load, settings(compile=how)),
        )


def small_card(
    shape: ModelConfig, device: torch.device, *, every: bool
) -> Iterator[tuple[Row, Work]]:
    """Yield updates at 4,096 tokens under 24 GB, which the allocator is kept to."""
    ways = [("block", True), ("block", False)]
    for how, checkpointing in [("off", True), *ways] if every else ways:

        def work(how: str = how, checkpointing: bool = checkpointing) -> Row:
            total = torch.cuda.get_device_properties(device).total_memory
            torch.cuda.set_per_process_memory_fraction(22.5e9 / total, device)
            load = workload(shape, 4096, device, micro_tokens=8192, steps=4)
            wish = settings(compile=how, gradient_checkpointing=checkpointing)
            try:
                return measured(load, wish)
            finally:
                torch.cuda.set_per_process_memory_fraction(1.0, device)

        yield {"compile": how, "checkpointing": checkpointing}, work


def eight_bit(
    shape: ModelConfig, device: torch.device, *, every: bool
) -> Iterator[tuple[Row, Work]]:
    """Yield updates with FP8 products in more and more of the model; at twice the width as well."""
    wide = named_shape("12x1536-2048")
    plain, blocks = ("off", "tensorwise"), ("blocks", "tensorwise")
    ways = [plain, ("ffn", "tensorwise"), blocks, ("blocks", "rowwise")]
    for model, few in ((shape, [blocks]), (wide, [plain, blocks])):
        load = workload(model, 2048, device, steps=8)
        for part, recipe in ways if every else few:
            wish = settings(compile="block", fp8=part, fp8_recipe=recipe)
            yield (
                {"width": model.hidden_size, "fp8": part, "recipe": recipe},
                partial(measured, load, wish),
            )


def peers(
    shape: ModelConfig, device: torch.device, how: str, *, every: bool
) -> Iterator[tuple[Row, Work]]:
    """Yield other ways of training the same shape and batch, with ours first and last.

    Ours with Muon stands beside nanochat, whose update has its own Muon in it.
    """
    load = workload(shape, 2048, device)
    if every:
        yield {"way": "ours"}, partial(measured, load, settings(compile=how))
    yield {"way": "nanogpt"}, partial(_peer, nanogpt, load)
    yield {"way": "nanochat"}, partial(_peer, nanochat, load)
    yield {"way": "ours, Muon"}, partial(measured, load, settings("muon", compile=how))
    if every:
        yield {"way": "trainer_compiled"}, partial(_peer, partial(_trainer, compiled=True), load)
    # Last of Trainer's: Liger's kernels stay in transformers' classes, and torch.compile stumbles
    # on them.
    if find_spec("liger_kernel") is None:
        missing = "liger-kernel is not installed: pip install liger-kernel==0.8.5"
        yield {"way": "trainer + Liger"}, lambda: {"not measured": missing}
        yield {"way": "trainer"}, partial(_peer, _trainer, load)
    else:
        yield {"way": "trainer + Liger"}, partial(_peer, partial(_trainer, liger=True), load)
    yield {"way": "ours again"}, partial(measured, load, settings(compile=how))


def _trainer(load: Workload, *, liger: bool = False, compiled: bool = False) -> StepRun:
    # Imported late: the rest of the table needs no transformers.
    from benchmarks.steps.trainer import trainer

    return trainer(load, liger=liger, compiled=compiled)


def _peer(way: Callable[[Workload], StepRun], load: Workload) -> Row:
    """Return a peer's row with what it was: compiled, or not."""
    run = way(load)
    return {"as": run.name} | told(run, load)


def measured(load: Workload, wish: OptimizationConfig) -> Row:
    """Time our updates; say what memory was predicted, and how many graphs were compiled.

    Where nothing can be compiled, what asks for it says so.
    """
    obstacle = compile_obstacle(load.device)
    if wish.compute.compile != "off" and obstacle is not None:
        return {"not measured": f"torch.compile {obstacle}"}
    forget()
    made = graphs_made()
    chosen = settled(wish, load)
    run = time_updates("ours", load, optimization=chosen)
    update = Update(load.micro_tokens, load.seq_len, accumulates=load.micro_tokens < load.tokens)
    predicted = update_memory(load.model, chosen, update=update)
    return told(run, load) | {
        "predicted GiB": predicted.total / 2**30,
        "graphs": graphs_made() - made,
    }


def told(run: StepRun, load: Workload) -> Row:
    """Return a run's row; both conventions of MFU are shares of the card's dense bf16 peak.

    What was compiled after the first update is a fault: all shapes are the same.
    """
    card = card_of_device(torch.cuda.get_device_name(load.device))
    causal = flops_per_token(load.model, load.seq_len, convention="causal")
    palm = flops_per_token(load.model, load.seq_len)
    row: Row = {
        "M parameters": run.parameters / 1e6,
        "tokens/s": run.tokens_per_s(load),
        "ms": 1e3 * load.tokens / run.tokens_per_s(load),
    }
    if card is not None:
        share = run.mfu(load, card.dense_bf16_flops)
        row |= {"MFU palm %": 100 * share}
        if run.flops_per_token == palm:
            row |= {"MFU causal %": 100 * share * causal / palm}
    spread = (max(run.step_s) - min(run.step_s)) / min(run.step_s)
    return row | {
        "spread %": 100 * spread,
        "first s": run.first_s,
        "peak GiB": (run.peak_bytes or 0) / 2**30,
        "loss": run.losses[-1],
        RECOMPILED: run.recompiles,
    }
