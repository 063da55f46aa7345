"""How good does a model become in so many seconds? The same text, machine and shape for all ways.

    python -m benchmarks.speedrun --data RUN/data [--seconds 150 300] [--ways ours nanochat nanoGPT]
        [--set data.packing=best_fit --set compute.document_masking=true]

Trains on the embedded Wikipedia text of a prepared folder and scores held-out documents on the way,
by which no setting was chosen. The clock stands while it scores, and what a way compiles is in the
compiler's cache when it starts, as at every start of a run but the first. Prints bits per byte
(lower is better) as Markdown; --out keeps every point of every race that has ended.
"""

from __future__ import annotations

import argparse
import datetime
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from yxanul.cli.entry import settle_openmp

settle_openmp()  # before torch is loaded, as the program does

import torch  # noqa: E402

from benchmarks.keeping import Kept  # noqa: E402
from benchmarks.speed.racer import (  # noqa: E402
    JUDGES,
    LONGEST_ROW,
    UPDATE_TOKENS,
    Racer,
    Text,
    open_text,
)
from benchmarks.speed.racers import CPU, RACERS  # noqa: E402
from yxanul.config.load import load_config  # noqa: E402
from yxanul.config.schema import RunConfig  # noqa: E402
from yxanul.data.tokenizer import load_tokenizer  # noqa: E402
from yxanul.evaluate.bits_per_byte import (  # noqa: E402
    DocumentScore,
    bits_per_byte,
    document_nats,
)
from yxanul.hardware.choices import freeze_compute  # noqa: E402
from yxanul.hardware.device import device_name  # noqa: E402
from yxanul.hardware.memory import keep_freed_memory  # noqa: E402

SOURCE = "wikipedia_leads"
HELD_OUT_TOKENS = 20_000
"""Of documents by which settings were chosen (docs/log.md), and of as many that come after them."""
Point = dict[str, float]


def main() -> None:
    """Race every way over every distance."""
    asked = _arguments()
    keep_freed_memory()
    config = _config(asked.config_dir, asked.overrides)
    torch.set_num_threads(config.optimization.compute.threads or 1)
    packing = config.stages[0].data.packing
    text = open_text(
        asked.data, SOURCE, held_out_tokens=HELD_OUT_TOKENS, judge=asked.judge, packing=packing
    )
    lines = [
        f"# {device_name(CPU)}, {datetime.date.today().isoformat()}\n\n"
        f"torch {torch.__version__}, {torch.get_num_threads()} threads; {len(text.stream):,} "
        f"tokens to learn from, packed as {packing}, {len(text.documents)} held-out documents "
        f"({asked.judge}); {config.model.name}, seed {asked.seed}.\n",
        "| seconds | way | parameters | bits per byte | on the way | updates | tokens/s |",
        "|---|---|---|---|---|---|---|",
    ]
    print(*lines, sep="\n", flush=True)
    kept = None if asked.out is None else Kept(asked.out, "cpu-race")
    rows: list[dict[str, Any]] = []
    for way in asked.ways:
        warm_up(RACERS[way](config, asked.seed), text, seed=asked.seed)
    for seconds in asked.seconds:
        for way in asked.ways:
            torch.compiler.reset()  # or graphs of other ways count against its limit
            found = _raced(RACERS[way](config, asked.seed), text, seconds=seconds, seed=asked.seed)
            rows.append({"way": way} | found)
            lines.append(_line(rows[-1]))
            print(lines[-1], flush=True)
            if kept is not None:  # after every race: whoever ends it early has those before
                kept.write("\n".join(lines) + "\n", [{"name": "race", "rows": rows}])


def _raced(racer: Racer, text: Text, *, seconds: float, seed: int) -> dict[str, Any]:
    course = race(racer, text, seconds=seconds, seed=seed)
    return {"seconds": seconds, "parameters": racer.parameters, "course": course}


def _line(row: dict[str, Any]) -> str:
    *passed, end = row["course"]
    told = ", ".join(f"{point['bpb']:.3f}" for point in passed)
    rate = end["updates"] * UPDATE_TOKENS / end["seconds"]
    return (
        f"| {row['seconds']:.0f} | {row['way']} | {row['parameters']:,} | {end['bpb']:.4f} | "
        f"{told} | {end['updates']:,.0f} | {rate:,.0f} |"
    )


def warm_up(racer: Racer, text: Text, *, seed: int) -> None:
    """Let a racer that will not run compile what one like it needs in all parts of a race."""
    rows = next(text.updates(seed))
    for progress in (0.0, 0.25, 0.5, 0.75, 1.0):
        racer.learn(rows, progress)


def race(
    racer: Racer,
    text: Text,
    *,
    seconds: float,
    seed: int,
    marks: int = 5,
    clock: Callable[[], float] = time.perf_counter,
) -> list[Point]:
    """Train for so many seconds; return the points at `marks` equal parts of them."""
    course: list[Point] = []
    trained = 0.0
    for updates, rows in enumerate(text.updates(seed), start=1):
        begin = clock()
        racer.learn(rows, min(trained / seconds, 1.0))
        trained += clock() - begin
        if trained >= seconds * (len(course) + 1) / marks:
            point = {"seconds": trained, "updates": updates, "bpb": score(racer, text)}
            course.append(point)
            if len(course) == marks:
                break
    return course


def score(racer: Racer, text: Text) -> float:
    """Return the bits per byte of the held-out documents."""
    nats = document_nats(
        text.documents, read=racer.read, seq_len=LONGEST_ROW, batch_tokens=UPDATE_TOKENS
    )
    sizes = load_tokenizer().token_bytes
    return bits_per_byte(
        [
            DocumentScore(float(cost), int(sizes[ids[1:]].sum()), len(ids) - 1)
            for cost, ids in zip(nats, text.documents, strict=True)
        ]
    )


def _config(folder: Path, overrides: list[str]) -> RunConfig:
    config = load_config(folder, overrides=["data.source=embedded", *overrides])
    compute = freeze_compute(config.optimization.compute, CPU, longest_seq_len=LONGEST_ROW)
    optimization = config.optimization.model_copy(update={"compute": compute})
    return config.model_copy(update={"optimization": optimization})


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="a prepared folder")
    parser.add_argument("--config_dir", type=Path, default=Path("configs/embedded"))
    parser.add_argument("--set", dest="overrides", action="append", default=[])
    parser.add_argument("--seconds", type=float, nargs="+", default=[150.0, 300.0])
    parser.add_argument("--ways", nargs="+", choices=list(RACERS), default=list(RACERS))
    parser.add_argument(
        "--judge",
        choices=JUDGES,
        default="unseen",
        help="held-out documents by which no setting was chosen, or those to choose by",
    )
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--out", type=Path, help="folder for results")
    return parser.parse_args()


if __name__ == "__main__":
    main()
