"""Kill a supervised run a hundred times, and hold its end against an unbroken one.

    python -m benchmarks.soak --out DIR [--kills 100] [--steps 40]

Two embedded runs of 40 steps a stage, without skills, one after the other: one is left alone, one
is killed by SIGKILL at random moments and started again by `yxanul supervise`. Their weights,
moments and metric rows must be equal bit for bit.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from yxanul.runfolder.checkpoints import list_checkpoints, verify_checkpoint
from yxanul.runfolder.durable import sha256_of
from yxanul.runfolder.spending import read_payments

_MEASURED = ("step_s", "tokens_per_s", "mfu")
_SHORTEST_S, _LONGEST_S = 3.0, 16.0
"""Between two kills; longer on a machine that takes longer to its first step, scores included."""
_TOKENS_PER_STEP = 2048
"""Of every stage of configs/embedded."""
_YXANUL = [sys.executable, "-m", "yxanul"]


def main() -> None:
    """Run both, print the figures; leave with 1 if they differ."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--out", type=Path, required=True, help="An empty folder.")
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--steps", type=int, default=40, help="In each of the four stages.")
    parser.add_argument("--seed", type=int, default=0)
    wanted = parser.parse_args()
    data = ["--data", "embedded", "--out", str(wanted.out / "data")]
    subprocess.run(
        [*_YXANUL, "prepare", "--config_dir", "configs/embedded", "--stage", "all", *data],
        check=True,
    )
    begin = time.monotonic()
    subprocess.run(_command(wanted.out / "unbroken", steps=wanted.steps), check=True)
    alone_s = time.monotonic() - begin
    begin = time.monotonic()
    to_first_step = read_payments(wanted.out / "unbroken" / "spending.jsonl")[0]
    longest_s = max(_LONGEST_S, 0.8 * to_first_step.seconds)
    draw = partial(random.Random(wanted.seed).uniform, _SHORTEST_S, longest_s)
    killed = _command(wanted.out / "killed", steps=wanted.steps)
    kills = _run_killed(wanted.out / "killed", killed, kills=wanted.kills, draw_s=draw)
    broken_s = time.monotonic() - begin
    differences = list(_differences(wanted.out / "unbroken", wanted.out / "killed"))
    print(
        f"unbroken: {alone_s:.0f} s; killed {kills} times, every {_SHORTEST_S:.0f} to "
        f"{longest_s:.0f} s: {broken_s:.0f} s"
    )
    print("\n".join(differences) if differences else "equal bit for bit")
    sys.exit(1 if differences or kills < wanted.kills else 0)


def _command(out: Path, *, steps: int) -> list[str]:
    words = ["run", "--config_dir", "configs/embedded", "--data", str(out.parent / "data")]
    tokens = steps * _TOKENS_PER_STEP
    shorter = [f"training.total_tokens={tokens}", "evaluation.skills=[]", "checkpoint.every_s=1"]
    return [*_YXANUL, *words, "--out", str(out), *(w for s in shorter for w in ("--set", s))]


def _run_killed(out: Path, command: list[str], *, kills: int, draw_s: Callable[[], float]) -> int:
    """Run it under the supervisor, killing it; return how often it was killed."""
    supervise = [*_YXANUL, "supervise", "--backoff_s", "0.1", "--"]
    log = out.with_suffix(".log").open("wb")
    done = 0
    with log, subprocess.Popen([*supervise, *command], stderr=log) as supervisor:
        while supervisor.poll() is None:
            if done == kills:
                supervisor.wait()
                break
            trainer = _trainer(supervisor.pid)
            if trainer is None:
                time.sleep(0.05)
                continue
            time.sleep(draw_s())
            if _trainer(supervisor.pid) == trainer:
                os.kill(trainer, signal.SIGKILL)
                done += 1
                print(f"killed {done} times, step {_last_step(out)}", flush=True)
                while _trainer(supervisor.pid) == trainer:
                    time.sleep(0.01)
    if supervisor.returncode != 0:
        raise SystemExit(f"the supervisor left with {supervisor.returncode}; see {log.name}")
    return done


def _trainer(supervisor: int) -> int | None:
    """Return the id of the supervisor's child; None between two starts."""
    try:
        text = Path(f"/proc/{supervisor}/task/{supervisor}/children").read_text()
    except OSError:
        return None
    return int(text.split()[0]) if text.split() else None


def _last_step(run: Path) -> int:
    rows = _rows(run)
    return int(rows[-1]["step"]) if rows else 0


def _rows(run: Path) -> list[dict[str, Any]]:
    path = run / "metrics.jsonl"
    lines = path.read_text().split("\n")[:-1] if path.exists() else []
    rows = [json.loads(line) for line in lines]
    return [{key: value for key, value in row.items() if key not in _MEASURED} for row in rows]


def _differences(one: Path, other: Path) -> list[str]:
    paths = [list_checkpoints(run / "checkpoints")[-1] for run in (one, other)]
    for path in paths:
        verify_checkpoint(path)
    found = []
    if paths[0].name != paths[1].name:
        found.append(f"the last checkpoints are {paths[0].name} and {paths[1].name}")
    for name in ("model.safetensors", "optimizer.safetensors", "state.json"):
        if sha256_of(paths[0] / name) != sha256_of(paths[1] / name):
            found.append(f"{name} differs")
    if _rows(one) != _rows(other):
        found.append("the metric rows differ")
    return found


if __name__ == "__main__":
    main()
