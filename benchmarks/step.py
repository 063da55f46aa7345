"""How fast is an update on a CPU, beside other ways of training the same shape and batch?

    python -m benchmarks.step [--rounds 3] [--threads 2] [--precision bf16] [--out FOLDER]

All ways train in what a run would take on this CPU: bf16 where its products are fast there, else
fp32. nanochat is compiled, as its own program does it everywhere; nanoGPT is not, as it advises for
a CPU. nanochat trains with Muon, so it is compared with ours under Muon, and the others with ours
under AdamW. A way whose package is missing is left out, and that is said. Every way is timed once a
round, in turn, all in one process with freed memory kept; the rate of matrix products in that
precision is taken between them, so that a busy machine shows. Prints Markdown, medians of the
rounds; --out keeps it as results of that day. Where a way compiled anything after its first update
there is one more line, and the code is 1.
"""

from __future__ import annotations

import argparse
import datetime
import statistics
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from yxanul.cli.entry import settle_openmp

settle_openmp()  # before torch is loaded, as the program does

import torch  # noqa: E402

from benchmarks.keeping import Kept, recompiled  # noqa: E402
from benchmarks.steps.nanochat import nanochat  # noqa: E402
from benchmarks.steps.nanogpt import nanogpt  # noqa: E402
from yxanul.bench.updates import settled, time_updates  # noqa: E402
from yxanul.bench.workload import StepRun, Workload, shape  # noqa: E402
from yxanul.config.schema import ComputeConfig, OptimizationConfig, OptimizerConfig  # noqa: E402
from yxanul.hardware.choices import DTYPES, precision_by_rule  # noqa: E402
from yxanul.hardware.compiler import compile_obstacle  # noqa: E402
from yxanul.hardware.device import device_name  # noqa: E402
from yxanul.hardware.memory import keep_freed_memory  # noqa: E402
from yxanul.hardware.peak import gemm_flops  # noqa: E402
from yxanul.plan.flops import flops_per_token  # noqa: E402

Way = Callable[[Workload], StepRun]
CPU = torch.device("cpu")
LIKE = {"nanochat": "ours, Muon"}
"""What a peer is compared with, for its optimizer; the others are compared with ours in AdamW."""


@dataclass
class Tally:
    """What one way reached, a value per round."""

    tokens_per_s: list[float] = field(default_factory=list)
    share: list[float] = field(default_factory=list)
    """FLOP/s of its own work, PaLM convention, over the rate of products of the round."""
    to_ours: list[float] = field(default_factory=list)
    """Our tokens/s over its own, in the same round and with an optimizer like its own."""
    recompiles: int = 0
    """Graphs made after the first update of any round, where all shapes are the same."""


def main() -> None:
    """Time every way on both shapes."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=8, help="updates that count, a round")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--precision", choices=tuple(DTYPES), default=precision_by_rule(CPU))
    parser.add_argument("--out", type=Path, help="folder for results")
    asked = parser.parse_args()
    warnings.filterwarnings("ignore")  # what transformers has to say of its own settings
    torch.set_num_threads(asked.threads)
    kept = keep_freed_memory()
    dtype = DTYPES[asked.precision]
    loads = workloads(asked.steps, dtype=dtype)
    head = (
        f"# {device_name(CPU)}, {datetime.date.today().isoformat()}\n\n"
        f"torch {torch.__version__}, {asked.threads} threads, freed memory kept: {kept}; "
        f"`python -m benchmarks.step --rounds {asked.rounds} --steps {asked.steps} "
        f"--threads {asked.threads} --precision {asked.precision}`; updates of 2,048 random "
        "tokens, medians of the rounds."
    )
    print(head, flush=True)
    sections, lines, again = [], [head], []
    for title, load in loads.items():
        tallies, rates = measure(load, all_ways(dtype), rounds=asked.rounds)
        table = "\n".join(_table(title, load, tallies=tallies, rates=rates))
        print(table, flush=True)
        lines.append(table)
        again += [f"{name} ({title})" for name, tally in tallies.items() if tally.recompiles]
        ways = {name: vars(tally) for name, tally in tallies.items()}
        sections.append({"name": title, "gemm_flops": rates, "ways": ways})
    if asked.out is not None:
        Kept(asked.out, "cpu-step").write("\n".join(lines) + "\n", sections)
    if again:
        sys.exit(recompiled(again))


def workloads(steps: int, *, dtype: torch.dtype) -> dict[str, Workload]:
    """Return what is trained, by title: updates of 2,048 tokens, at once."""
    nano = shape("nano")
    deep = nano.model_copy(update={"num_hidden_layers": 12})
    return {
        "nano, 8 x 256, seq 256": Workload(nano, 256, 8, 8, CPU, dtype, steps, warmup=2),
        "12 x 256, seq 512": Workload(deep, 512, 4, 4, CPU, dtype, steps, warmup=2),
    }


def all_ways(dtype: torch.dtype) -> dict[str, Way]:
    """Return the contestants by name; ours, in its default settings on a CPU, comes first.

    nanoGPT's way trains in fp32 on a CPU whatever `dtype` is (its autocast is a card's), and ours
    does so beside it.
    """

    def our_way(optimizer: Literal["adamw", "muon"] = "adamw", **compute: Any) -> Way:
        wish = OptimizationConfig(
            compute=ComputeConfig(**compute), optimizer=OptimizerConfig(name=optimizer)
        )
        return lambda load: time_updates("ours", load, optimization=settled(wish, load))

    found = {"ours": our_way()}
    obstacle = compile_obstacle(CPU)
    if obstacle is None:
        found["ours, each block compiled"] = our_way(compile="block")
    else:
        print(f"not compiled: {obstacle}", file=sys.stderr)
    found["ours, Muon"] = our_way("muon")
    if dtype != torch.float32:
        found["ours, fp32"] = lambda load: our_way()(replace(load, dtype=torch.float32))
    found |= _trainers(compiles=obstacle is None)
    found["nanochat"] = nanochat
    found["nanoGPT, fp32"] = nanogpt
    return found


def _trainers(*, compiles: bool) -> dict[str, Way]:
    missing = [name for name in ("transformers", "accelerate") if find_spec(name) is None]
    if missing:
        print(f"not measured: Trainer, {' and '.join(missing)} not installed", file=sys.stderr)
        return {}
    from benchmarks.steps.trainer import trainer

    found: dict[str, Way] = {"Hugging Face Trainer": trainer}
    if compiles:
        found["Hugging Face Trainer, compiled"] = partial(trainer, compiled=True)
    return found


def measure(
    load: Workload, contestants: dict[str, Way], *, rounds: int
) -> tuple[dict[str, Tally], list[float]]:
    """Time every way in turn, `rounds` times; return what each reached, and products' FLOP/s.

    `contestants` hold one named ours, and what is `LIKE` any other of them.
    """
    tallies = {name: Tally() for name in contestants}
    rates: list[float] = []
    for _ in range(rounds):
        runs, around = {}, [gemm_flops(load.dtype)]
        for name, way in contestants.items():
            torch.compiler.reset()  # or graphs of other ways and rounds count against its limit
            runs[name] = way(load)
            around.append(gemm_flops(load.dtype))
        rate = statistics.median(around)
        rates.append(rate)
        for name, run in runs.items():
            speed, tally = run.tokens_per_s(load), tallies[name]
            tally.tokens_per_s.append(speed)
            tally.recompiles += run.recompiles
            tally.share.append(speed * run.flops_per_token / rate)
            tally.to_ours.append(runs[LIKE.get(name, "ours")].tokens_per_s(load) / speed)
    return tallies, rates


def _table(
    title: str, load: Workload, *, tallies: dict[str, Tally], rates: list[float]
) -> list[str]:
    causal = flops_per_token(load.model, load.seq_len, convention="causal")
    palm = flops_per_token(load.model, load.seq_len)
    told = ", ".join(f"{rate / 1e9:,.0f}" for rate in rates)
    like = "".join(f" ({peer}: {ours})" for peer, ours in LIKE.items())
    return [
        f"\n## {title}\n",
        f"Products: {told} GFLOP/s. The causal count of our work is {causal / palm:.0%} of "
        "the PaLM one.\n",
        "| way | tokens/s | share of the products' rate, PaLM | "
        f"ours is so many times as fast{like} | recompiled |",
        "|---|---|---|---|---|",
        *(
            f"| {name} | {statistics.median(tally.tokens_per_s):,.0f} | "
            f"{statistics.median(tally.share):.0%} | {statistics.median(tally.to_ours):.2f} | "
            f"{tally.recompiles} |"
            for name, tally in tallies.items()
        ),
    ]


if __name__ == "__main__":
    main()
