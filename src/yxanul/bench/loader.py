"""How long a process waits for its batches: real ones, read as a run reads them."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from yxanul.config.schema import RunConfig, StageConfig, chunk_tokens
from yxanul.data.batches.loader import StageLoader
from yxanul.data.batches.mixture import mixed_order
from yxanul.data.batches.order import OrderKey
from yxanul.data.packing.chunks import ChunkTable
from yxanul.data.prepared.manifest import load_manifest
from yxanul.data.prepared.shards import open_stream


@dataclass(frozen=True)
class LoaderFigures:
    """What one stage's batches took at one sequence length."""

    stage: str
    seq_len: int
    batch_tokens: int
    ms: float
    """Median of a batch, first readings left out."""
    tokens_per_s: float

    def as_json(self) -> dict[str, Any]:
        """Return the figures by name."""
        return asdict(self)


def measure_loader(
    config: RunConfig, root: Path, *, batches: int, say: Callable[[str], None]
) -> Iterator[LoaderFigures]:
    """Yield the figures of every stage and length, reading the prepared folder `root`.

    `say` gets a sentence before each.
    """
    for stage in config.stages:
        loader = open_loader(config, stage, root=root, steps=batches)
        tokens = stage.training.batch_tokens
        for seq_len in sorted({phase.seq_len for phase in stage.training.seq_len_curriculum}):
            say(f"{stage.name}: 2 x {batches:,} batches of rows of {seq_len:,} tokens")
            list(read_s(loader, seq_len))  # what comes from the disk is in memory then
            seconds = statistics.median(read_s(loader, seq_len))
            rate = tokens / seconds
            yield LoaderFigures(stage.name, seq_len, tokens, ms=1e3 * seconds, tokens_per_s=rate)


def open_loader(config: RunConfig, stage: StageConfig, *, root: Path, steps: int) -> StageLoader:
    """Return the reader of a stage's first steps, as its first attempt reads them."""
    manifest, chunk = load_manifest(root), chunk_tokens(config, stage)
    chunks = ChunkTable(manifest, root, packing=stage.data.packing, chunk_tokens=chunk)
    stages = config.stages[: config.stages.index(stage) + 1]
    order = mixed_order(
        manifest,
        stages,
        key=OrderKey(stage.data.seed, stage.name),
        n_chunks=steps * stage.training.batch_tokens // chunk,
        chunks=chunks,
    )
    streams = {n: open_stream(manifest, root, source=n, split="train") for n in order.sources}
    return StageLoader(
        order,
        streams,
        chunks=chunks,
        chunk_tokens=chunk,
        batch_tokens=stage.training.batch_tokens,
    )


def read_s(loader: StageLoader, seq_len: int) -> Iterator[float]:
    """Yield the seconds of every step's batch."""
    for step in range(loader.steps):
        begin = time.perf_counter()
        loader.step_rows(step, seq_len)
        yield time.perf_counter() - begin
