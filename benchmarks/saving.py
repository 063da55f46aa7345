"""What a checkpoint costs the training: python -m benchmarks.saving --out DIR.

The flagship's shape trains on this CPU. Steps are timed alone, then with a checkpoint that is
copied and written beside them, then with one that torch.save writes in the loop. The time lost is
what the same steps take longer. Needs some 14 GB of memory.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from yxanul.config.load import load_config
from yxanul.data.batches.loader import StepRows
from yxanul.hardware.memory import keep_freed_memory
from yxanul.optim.optimizers import LearningRates
from yxanul.parallel.processes import ALONE
from yxanul.runfolder.checkpoints import CheckpointInfo, checkpoint_name
from yxanul.train.outward.saver import Saver, Snapshot
from yxanul.train.updates.engine import build_engine
from yxanul.train.updates.state import copied
from yxanul.train.updates.step import train_step

_TOKENS = 256
_RATES = LearningRates(1e-4, 1e-4, 1e-4)


def main() -> None:
    """Print seconds of a step and what each way of saving adds."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--out", type=Path, required=True, help="A folder on the disk to measure.")
    parser.add_argument("--steps", type=int, default=12, help="Steps that are timed alone.")
    parser.add_argument("--saves", type=int, default=3)
    wanted = parser.parse_args()
    keep_freed_memory()
    config = load_config(Path("configs"))
    threads = {"threads": 2, "micro_batch_tokens": _TOKENS, "loss_chunk_tokens": 1024}
    choices = {"precision": "fp32", "attention": "plain", "compile": "off", **threads}
    compute = config.optimization.compute.model_copy(update=choices)
    optimization = config.optimization.model_copy(update={"compute": compute})
    torch.set_num_threads(2)
    model, engine = build_engine(
        config.model, optimization, processes=ALONE, device=torch.device("cpu")
    )
    tokens = np.random.default_rng(0).integers(0, config.model.vocab_size, (2, 1, _TOKENS))
    batch = StepRows.whole(tokens[0], tokens[1])

    def step() -> None:
        train_step(engine, batch, rates=_RATES)

    def state() -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
        return model.state_dict(), engine.optimizers.state_tensors()

    for _ in range(3):
        step()
    alone = [_seconds(step) for _ in range(wanted.steps)]
    step_s = statistics.median(alone)
    sizes = [t.numel() * t.element_size() for part in state() for t in part.values()]
    print(f"{sum(sizes) / 1e9:.2f} GB of state; a step alone takes {step_s:.2f} s (median)")
    wanted.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=wanted.out) as own:
        out = Path(own)
        saver = Saver(out, optimization.checkpoint, say=print, written=lambda _: None)
        for name, way in (
            ("copied, written beside", lambda n: _beside(saver, state, out, number=n)),
            ("torch.save in the loop", lambda n: _in_loop(state, out / f"{n}.pt")),
        ):
            found = [
                _lost(step, step_s, save=way, number=n, saver=saver) for n in range(wanted.saves)
            ]
            stopped, lost = (statistics.median(values) for values in zip(*found, strict=True))
            every_s = optimization.checkpoint.every_s or 0.0
            told = f"training stands still for {stopped:.2f} s, loses {lost:.2f} s in all"
            print(f"{name}: {told}, {lost / every_s:.2%} of {every_s:.0f} s", flush=True)


def _seconds(work: Callable[[], object]) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def _lost(
    step: Callable[[], None],
    step_s: float,
    *,
    save: Callable[[int], None],
    number: int,
    saver: Saver,
) -> tuple[float, float]:
    """Return the seconds that saving stopped the steps, and all that the steps took longer."""
    begin = time.perf_counter()
    save(number)
    stopped, steps = time.perf_counter() - begin, 0
    while steps < 2 or saver.is_writing:
        step()
        steps += 1
    saver.finish()
    return stopped, time.perf_counter() - begin - steps * step_s


def _beside(
    saver: Saver,
    state: Callable[[], tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]],
    out: Path,
    *,
    number: int,
) -> None:
    weights, moments = state()
    info = CheckpointInfo(
        path=out / checkpoint_name(number, 0),
        step=number,
        attempt=0,
        tokens_seen=0,
        stage="stage1_wikipedia",
        permanent=False,
        parent=None,
    )
    saver.save(Snapshot(info, copied(weights), copied(moments), {}), wait=False)


def _in_loop(
    state: Callable[[], tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]], path: Path
) -> None:
    weights, moments = state()
    torch.save({"model": weights, "optimizer": moments}, path)


if __name__ == "__main__":
    main()
