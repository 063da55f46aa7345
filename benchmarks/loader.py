"""How long does a process wait for its batch, beside the step that it feeds?

    python -m benchmarks.loader --config_dir CONFIGS --data PREPARED [--batch_tokens N]

Reads real batches of prepared shards (`yxanul prepare`, or RUN/data), in the order and the rows
that a run reads them in, and prints tokens/s for every sequence length, as Markdown. The share of a
step is for the rates of docs/performance.md: a CPU that trains nano, and an H200 the flagship.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Iterator
from pathlib import Path

from yxanul.config.load import load_config
from yxanul.config.schema import RunConfig, StageConfig, chunk_tokens
from yxanul.data.loader import StageLoader
from yxanul.data.manifest import load_manifest
from yxanul.data.mixture import source_weights, stage_mixture
from yxanul.data.order import OrderKey, stage_order
from yxanul.data.shards import open_stream

TRAINED = {"nano on 2 cores": 5_000, "the flagship on an H200": 205_000}
"""Tokens per second that a step trains, about."""


def main() -> None:
    """Time every stage's batches."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--config_dir", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True, help="a prepared folder")
    parser.add_argument("--batch_tokens", type=int, help="default: each stage's own")
    parser.add_argument("--batches", type=int, default=20)
    asked = parser.parse_args()
    change = asked.batch_tokens and f"training.batch_tokens={asked.batch_tokens}"
    config = load_config(asked.config_dir, overrides=[change] if change else [])
    print(f"| stage | seq_len | ms | tokens/s | {' | '.join(f'of {name}' for name in TRAINED)} |")
    print(f"|{'---|' * (4 + len(TRAINED))}")
    for stage in config.stages:
        loader = open_loader(config, stage, root=asked.data, steps=asked.batches)
        for seq_len in sorted({phase.seq_len for phase in stage.training.seq_len_curriculum}):
            seconds = statistics.median(read_s(loader, seq_len))
            rate = stage.training.batch_tokens / seconds
            shares = " | ".join(f"{trained / rate:.3%}" for trained in TRAINED.values())
            row = f"{stage.name} | {seq_len:,} | {1e3 * seconds:.2f} | {rate:,.0f} | {shares}"
            print(f"| {row} |", flush=True)


def open_loader(config: RunConfig, stage: StageConfig, *, root: Path, steps: int) -> StageLoader:
    """Return the reader of a stage's first steps, as its first attempt reads them."""
    manifest, chunk = load_manifest(root), chunk_tokens(config, stage)
    before = config.stages[: [one.name for one in config.stages].index(stage.name)]
    own, replay = stage_mixture(
        manifest,
        stage.name,
        earlier=[one.name for one in before],
        weights=source_weights(manifest, [*before, stage]),
        chunk_tokens=chunk,
    )
    order = stage_order(
        OrderKey(stage.data.seed, stage.name, 0),
        steps * stage.training.batch_tokens // chunk,
        own=own,
        replay=replay,
        replay_share=stage.data.replay_share,
    )
    streams = {n: open_stream(manifest, root, source=n, split="train") for n in order.sources}
    return StageLoader(order, streams, chunk_tokens=chunk, batch_tokens=stage.training.batch_tokens)


def read_s(loader: StageLoader, seq_len: int) -> Iterator[float]:
    """Yield the seconds of every step's batch."""
    for step in range(loader.steps):
        begin = time.perf_counter()
        loader.step_rows(step, seq_len)
        yield time.perf_counter() - begin


if __name__ == "__main__":
    main()
