"""A small world for whole runs: two stages of text written for the project, a model of two layers.

A run takes some seconds in a process of its own, as a user starts it.
"""

import contextlib
import fcntl
import hashlib
import io
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from tests.warm import Fork, start_yxanul
from yxanul.cli.main import main
from yxanul.failpoints import VARIABLE

STAGES = ("stage1_tales", "stage2_sums")
STEPS = 8
ADAMW = ("--set", "optimizer.name=adamw", "--set", "optimizer.muon_beta2=")
"""Flags in place of the world's own Muon."""
BATCH_TOKENS = 128

_WHO = ("The miller", "A young sailor", "Her brother", "The old clock maker", "Nobody in town")
_DOES = ("carried", "forgot", "painted", "hid", "sold", "mended")
_WHAT = ("a wooden door", "the blue lantern", "three sacks of grain", "a letter", "the long rope")
_WHERE = ("behind the mill", "near the river", "on the hill", "before sunrise", "in the rain")

# Columns of metrics.jsonl that measure this machine and not the run.
MEASURED = ("step_s", "tokens_per_s", "mfu", "hardware")


def tale(number: int) -> str:
    """Return a short text, another one for each number."""
    sentences = []
    for i in range(4):
        k = number * 7 + i * 13
        pick = [words[(k // (3 + j)) % len(words)] for j, words in enumerate((_WHO, _DOES, _WHAT))]
        sentences.append(f"{' '.join(pick)} {_WHERE[(k // 5) % len(_WHERE)]} in year {number}.")
    return " ".join(sentences)


def sum_text(number: int) -> str:
    """Return a worked sum, another one for each number."""
    a, b = number * 3 + 1, number * 5 + 2
    return f"Question: what is {a} plus {b}?\nAnswer: {a} + {b} = {a + b}."


def write_texts(folder: Path, documents: int = 220) -> Path:
    """Write the documents of both stages as JSON lines; return the folder for --data."""
    for stage, write in zip(STAGES, (tale, sum_text), strict=True):
        place = folder / stage
        place.mkdir(parents=True)
        lines = (json.dumps({"text": write(number)}) for number in range(documents))
        (place / "texts.jsonl").write_text("\n".join(lines) + "\n")
    return folder


def write_configs(folder: Path) -> Path:
    """Write a configuration of two stages and a model of two layers; return its folder."""
    folder.mkdir(parents=True)
    model = {
        "name": "tiny",
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "intermediate_size": 32,
        "max_position_embeddings": 64,
    }
    optimization = {
        "seed": 3,
        "optimizer": {
            "name": "muon",
            "muon_beta2": 0.95,
            "max_grad_norm": 1.0,
            "weight_decay": 0.01,
        },
        "compute": {"precision": "fp32", "threads": 1, "micro_batch_tokens": 64},
        "checkpoint": {"every_s": None, "every_steps": 3, "keep": 2},
        "logging": {"every_steps": 1, "prompts": ["The miller"], "prompt_tokens": 6},
    }
    _dump(folder / "model_config.yaml", {"model": model})
    _dump(folder / "optimization.yaml", optimization)
    for number, name in enumerate(STAGES):
        _dump(folder / f"{name}.yaml", _stage(name, replay_share=0.25 * number))
    return folder


def _stage(name: str, *, replay_share: float) -> dict:
    return {
        "name": name,
        "training": {
            "total_tokens": STEPS * BATCH_TOKENS,
            "batch_tokens": BATCH_TOKENS,
            "learning_rate": 0.01,
            "embedding_learning_rate": 0.02,
            "warmup_fraction": 0.1,
            "seq_len_curriculum": [
                {"from_fraction": 0.0, "seq_len": 32},
                {"from_fraction": 0.5, "seq_len": 64},
            ],
        },
        "data": {"source": "hub", "replay_share": replay_share, "validation_fraction": 0.1},
        "evaluation": {"every_fraction": 0.5, "tokens_per_domain": 200, "seq_len": 64},
        # A run of a few steps always falls: what still falls is lengthened in tests of that alone.
        "gate": {"min_improvement": 0.005, "extension": {"when": "short"}},
    }


def _dump(path: Path, value: dict) -> None:
    path.write_text(yaml.safe_dump(value, sort_keys=False))


@dataclass
class World:
    """Folders of one test, and the ways to start the program in them."""

    root: Path
    texts: Path
    """A run's settings hold where they lie."""

    @classmethod
    def create(cls, root: Path) -> "World":
        write_configs(root / "configs")
        return cls(root, write_texts(root / "texts"))

    def command(self, verb: str, out: str, *more: str) -> list[str]:
        return [
            *(sys.executable, "-m", "yxanul", verb, "--config_dir", str(self.root / "configs")),
            *("--data", str(self.texts), "--out", str(self.root / out), *more),
        ]

    def start(self, verb: str, out: str, *more: str, **env: str) -> subprocess.Popen | Fork:
        """Start the program in a process of its own."""
        words = self.command(verb, out, *more)[3:]
        return start_yxanul(words, env={**os.environ, "PYTHONPATH": "src", **env})

    def finish(self, verb: str, out: str, *more: str, code: int = 0) -> "Finished":
        """Run the program to its end in this process, which saves its start, and check its code."""
        words = self.command(verb, out, *more)[3:]
        stdout, stderr = io.StringIO(), io.StringIO()
        with (
            contextlib.redirect_stdout(stdout),
            contextlib.redirect_stderr(stderr),
            pytest.raises(SystemExit) as left,
        ):
            main(words)
        found = Finished(stdout.getvalue(), stderr.getvalue())
        assert left.value.code == code, f"left with {left.value.code}:\n{found.stderr}"
        return found

    def launch(self, verb: str, out: str, *more: str, ranks: int = 2) -> "Finished":
        """Run the program to its end in processes of torchrun's; they must all end well."""
        launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
        program = self.command(verb, out, *more)[1:]
        done = subprocess.run(
            [*launcher, "--nproc_per_node", str(ranks), *program],
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
            env={**os.environ, "PYTHONPATH": "src"},
        )
        assert done.returncode == 0, done.stderr
        return Finished(done.stdout, done.stderr)

    def join(self, verb: str, out: str, *more: str, ranks: int = 2) -> "Finished":
        """Run as `launch` does in forks, which are told what torchrun would tell them."""
        told = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
        told |= dict.fromkeys(("WORLD_SIZE", "LOCAL_WORLD_SIZE"), str(ranks))
        processes = [
            self.start(verb, out, *more, **told, RANK=str(rank), LOCAL_RANK=str(rank))
            for rank in range(ranks)
        ]
        return end_together(processes)[0]

    def start_to(self, out: str, step: int, *more: str) -> subprocess.Popen | Fork:
        """Start a run that stands still after this step's row, or is about to, until a SIGCONT."""
        saved = [int(path.name[5:13]) for path in self.checkpoints(out)]
        visit = step + 1 - max(saved, default=0)
        process = self.start("run", out, *more, **{VARIABLE: f"step.updated=pause@{visit}"})
        wait_until(lambda: last_step(self.root / out / "metrics.jsonl") >= step, process)
        return process

    def interrupt(self, out: str, *, after_step: int, signals: list[int]) -> int:
        """Start a run, send it the signals together after this step, and return the exit code."""
        process = self.start_to(out, after_step)
        for number in (signal.SIGSTOP, *signals):
            process.send_signal(number)
        go_on(process)
        return process.returncode

    def kill(self, out: str, *, after_step: int) -> None:
        assert self.interrupt(out, after_step=after_step, signals=[signal.SIGKILL]) == -9

    def exit_record(self, out: str) -> dict:
        return json.loads((self.root / out / "exit.json").read_text())

    def checkpoints(self, out: str) -> list[Path]:
        return sorted((self.root / out / "checkpoints").glob("step-*"))


@dataclass(frozen=True)
class Finished:
    """What a finished program printed."""

    stdout: str
    stderr: str


def end_together(processes: Sequence[subprocess.Popen | Fork]) -> list[Finished]:
    """Wait until all have ended well; of the first that has not, fail with what it printed."""

    def end(process: subprocess.Popen | Fork) -> Finished:
        stdout, stderr = process.communicate(timeout=240)
        assert process.returncode == 0, f"left with {process.returncode}:\n{stderr}"
        return Finished(stdout, stderr)

    with ThreadPoolExecutor(len(processes)) as threads:
        ends = [threads.submit(end, process) for process in processes]
        try:
            for ended in as_completed(ends):
                ended.result()
        finally:
            # They would wait for the one that has failed.
            for process in processes:
                process.kill()
    return [ended.result() for ended in ends]


def finished_world(factory: pytest.TempPathFactory, name: str) -> World:
    """Return a new world with a copy of a run that has ended, which all workers train once."""
    base = factory.getbasetemp()
    # A worker has a folder in that of all; a process that tests alone keeps to its own. What a
    # worker starts is told the same, but may stand where other sessions' folders do.
    session = os.environ.get("PYTEST_XDIST_TESTRUNUID")
    shared = base / "finished" if session is None else base.parent / f"finished-{session}"
    with shared.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (shared / "whole").exists():
            shutil.rmtree(shared, ignore_errors=True)
            World.create(shared).finish("run", "run")
            (shared / "whole").touch()
    root = factory.mktemp(name)
    shutil.copytree(shared / "run", root / "run")
    write_configs(root / "configs")
    return World(root, shared / "texts")


def free_port() -> int:
    """Return a port that nobody listens on: none of those that a system gives to connections.

    One of those may be another test's by the time that it is listened on.
    """
    while True:
        port = 20_000 + secrets.randbelow(12_000)
        with socket.socket() as listening, contextlib.suppress(OSError):
            listening.bind(("127.0.0.1", port))
            return port


def wait_until(condition: Callable[[], bool], process: subprocess.Popen | Fork) -> None:
    """Wait until the condition holds; fail with what the process printed if it ends before."""
    deadline = time.monotonic() + 240
    while not condition():
        if process.poll() is not None or time.monotonic() > deadline:
            process.kill()
            raise AssertionError(f"it ended before: {process.communicate()[1]}")
        time.sleep(0.002)


def go_on(process: subprocess.Popen | Fork) -> None:
    """Wait a minute for the end of a process that stands still, or is about to."""
    deadline = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < deadline:
        process.send_signal(signal.SIGCONT)
        time.sleep(0.01)
    process.communicate(timeout=1)


def last_step(metrics: Path) -> int:
    """Return the step of the last whole row; 0 before there is one."""
    if not metrics.exists():
        return 0
    lines = metrics.read_text().split("\n")[:-1]
    return json.loads(lines[-1])["step"] if lines else 0


def fingerprint(checkpoint: Path) -> dict[str, str]:
    """Return the sha256 of weights, optimizer state and clock."""
    names = ("model.safetensors", "optimizer.safetensors", "state.json")
    return {name: hashlib.sha256((checkpoint / name).read_bytes()).hexdigest() for name in names}


def deterministic_rows(run: Path) -> list[dict]:
    """Return the metric rows without the columns that measure the machine."""
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in row.items() if k not in MEASURED} for row in rows]
