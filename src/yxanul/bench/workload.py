"""What every contestant of a benchmark trains: one shape, one size of batch, one device."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import numpy as np
import torch

from yxanul.config.load import load_config
from yxanul.config.schema import ModelConfig
from yxanul.config.tokens import END_OF_TEXT
from yxanul.hardware.device import synchronise
from yxanul.parallel.compiling import graphs_made

Batch = tuple[np.ndarray, np.ndarray]
"""Inputs and targets of one update, each (rows, seq_len) int64."""


@dataclass(frozen=True)
class Workload:
    """Updates of `rows` rows of `seq_len` tokens, cut into micro-batches of `micro_rows`."""

    model: ModelConfig
    seq_len: int
    rows: int
    micro_rows: int
    device: torch.device
    dtype: torch.dtype
    steps: int = 20
    warmup: int = 3
    seed: int = 1
    document_tokens: int | None = None
    """Mean tokens of a document, which `<|endoftext|>` begins; None: there are none."""

    @property
    def tokens(self) -> int:
        """Tokens of one update."""
        return self.rows * self.seq_len

    @property
    def updates(self) -> int:
        """Updates of one contestant: the first, those that warm up, those that count."""
        return 1 + self.warmup + self.steps

    @property
    def micro_tokens(self) -> int:
        """Tokens of one forward pass."""
        return self.micro_rows * self.seq_len

    def batches(self) -> Iterator[Batch]:
        """Yield random tokens, the same for every contestant, without an end."""
        generator = np.random.default_rng(self.seed)
        while True:
            tokens = generator.integers(0, self.model.vocab_size, (self.rows, self.seq_len + 1))
            if self.document_tokens is not None:
                tokens[generator.random(tokens.shape) < 1 / self.document_tokens] = END_OF_TEXT
            yield tokens[:, :-1].copy(), tokens[:, 1:].copy()


@dataclass
class StepRun:
    """What one contestant took."""

    name: str
    parameters: int
    flops_per_token: int
    """Forward and backward of its own shape, PaLM convention."""
    first_s: float = 0.0
    """The first update, with whatever it compiles."""
    step_s: list[float] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    optimizer_s: float | None = None
    """Of an update, what the optimizers' own step takes; None: it was not timed apart."""
    recompiles: int = 0
    """Graphs that torch.compile made after the first update, where all shapes are the same."""
    peak_bytes: int | None = None
    """Most memory that the card's allocator held; None on a CPU."""

    def tokens_per_s(self, workload: Workload) -> float:
        """Tokens per second at the median update."""
        return workload.tokens / statistics.median(self.step_s)

    def mfu(self, workload: Workload, peak_flops: float) -> float:
        """Its FLOP/s as a share of `peak_flops`."""
        return self.tokens_per_s(workload) * self.flops_per_token / peak_flops


def shape(name: str) -> ModelConfig:
    """Return a shape of configs/models."""
    return load_config(Path("configs"), model=name).model


def time_steps(run: StepRun, step: Callable[[Batch], float], *, workload: Workload) -> StepRun:
    """Fill `run` with the time of updates by `step`, which returns the loss once it is known."""
    forget_peak(workload.device)
    seconds, losses, graphs = [], [], []
    for batch in islice(workload.batches(), workload.updates):
        begin = time.perf_counter()
        losses.append(step(batch))
        synchronise(workload.device)
        seconds.append(time.perf_counter() - begin)
        graphs.append(graphs_made())
    return filled(run, seconds, losses=losses, graphs=graphs, workload=workload)


def filled(
    run: StepRun,
    seconds: list[float],
    *,
    losses: list[float],
    graphs: list[int],
    workload: Workload,
) -> StepRun:
    """Return `run` with the time and loss of each of `workload.updates`, from the first on.

    `graphs` are those made (`graphs_made`) until the end of each.
    """
    run.first_s = seconds[0]
    run.step_s = seconds[1 + workload.warmup :]
    run.losses = losses
    run.recompiles = graphs[-1] - graphs[0]
    if workload.device.type == "cuda":
        run.peak_bytes = torch.cuda.max_memory_allocated(workload.device)
    return run


def forget_peak(device: torch.device) -> None:
    """Begin to watch the most memory held anew; nothing on a CPU."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
