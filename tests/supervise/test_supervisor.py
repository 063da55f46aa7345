"""A supervised run of real processes: killed, stopped and refused."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.train.world import STEPS, World, fingerprint, last_step, wait_until

SUPERVISE = [sys.executable, "-m", "yxanul", "supervise", "--backoff_s", "0.1", "--"]


@pytest.fixture
def world(tmp_path) -> World:
    return World.create(tmp_path)


def supervised(*command: str) -> subprocess.Popen:
    return subprocess.Popen(
        [*SUPERVISE, *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": "src"},
    )


def ranks(command: list[str]) -> list[str]:
    """Return the command in two processes of torchrun's."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    return [*launcher, "--nproc_per_node", "2", *command[1:]]


def trainer(supervisor: subprocess.Popen, *, rank: int | None = None) -> int:
    """Return the id of the process that trains: the supervisor's child, or torchrun's of a rank."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        for child in children(supervisor.pid):
            if rank is None:
                return child
            for grandchild in children(child):
                if f"RANK={rank}".encode() in Path(
                    f"/proc/{grandchild}/environ"
                ).read_bytes().split(b"\0"):
                    return grandchild
    raise AssertionError("nothing trains")


def children(process: int) -> list[int]:
    text = Path(f"/proc/{process}/task/{process}/children").read_text()
    return [int(word) for word in text.split()]


@pytest.mark.slow
def test_a_run_that_is_killed_goes_on_to_the_same_weights(world):
    world.finish("run", "unbroken")
    process, run = supervised(*world.command("run", "run")), world.root / "run"
    for after in (2, STEPS + 2):
        wait_until(lambda after=after: last_step(run / "metrics.jsonl") >= after, process)
        os.kill(trainer(process), signal.SIGKILL)
    _, told = process.communicate(timeout=120)
    assert process.returncode == 0, told
    assert told.count("ended by SIGKILL, without a record") == 2
    wanted, found = (world.checkpoints(name)[-1] for name in ("unbroken", "run"))
    assert fingerprint(found) == fingerprint(wanted)


def test_who_stops_the_supervisor_stops_the_run_once_and_it_is_saved(world):
    process, run = supervised(*world.command("run", "run")), world.root / "run"
    wait_until(lambda: last_step(run / "metrics.jsonl") >= 2, process)
    process.send_signal(signal.SIGTERM)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 10, told
    assert "asked to stop" in told
    assert "started again" not in told
    assert world.exit_record("run")["code"] == 10


@pytest.mark.slow
def test_a_stop_of_the_run_itself_is_a_reason_to_start_it_again(world):
    """As when a spot machine warns the process and then stays."""
    process, run = supervised(*world.command("run", "run")), world.root / "run"
    wait_until(lambda: last_step(run / "metrics.jsonl") >= 2, process)
    os.kill(trainer(process), signal.SIGTERM)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 0, told
    assert "it was asked to stop, and saved, started again in 0 s" in told


@pytest.mark.slow
def test_a_refusal_keeps_its_code_under_torchrun_and_is_not_tried_again(world):
    command = world.command("run", "run", "--resume", "step-00000099-a0")
    process = supervised(*ranks(command))
    _, told = process.communicate(timeout=120)
    assert process.returncode == 30, told
    assert "another start would end the same way" in told
    assert "started again in" not in told


@pytest.mark.slow
def test_a_rank_that_is_killed_is_a_failure_that_may_pass(world):
    world.launch("run", "unbroken")
    process, run = supervised(*ranks(world.command("run", "run"))), world.root / "run"
    wait_until(lambda: last_step(run / "metrics.jsonl") >= 2, process)
    os.kill(trainer(process, rank=1), signal.SIGKILL)
    _, told = process.communicate(timeout=240)
    assert process.returncode == 0, told
    assert "started again in" in told
    wanted, found = (world.checkpoints(name)[-1] for name in ("unbroken", "run"))
    assert fingerprint(found) == fingerprint(wanted)


def test_how_it_ended_is_the_one_object_on_stdout():
    program = "print('its own words'); raise SystemExit(30)"
    words = [*SUPERVISE[:-1], "--json", "--", sys.executable, "-c", program]
    done = subprocess.run(
        words,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": "src"},
        timeout=60,
        check=False,
    )
    assert done.returncode == 30
    assert "its own words" in done.stderr
    found = json.loads(done.stdout)
    assert found.keys() == {"exit_code", "reason", "starts", "why"}
    assert (found["exit_code"], found["starts"]) == (30, 1)
    assert found["reason"] == "left with 30, without a record"
    assert "another start would end the same way" in found["why"]


def test_a_command_that_is_not_there_is_one_sentence():
    process = supervised("no-such-command-of-ours")
    _, told = process.communicate(timeout=60)
    assert process.returncode == 30
    assert "no-such-command-of-ours cannot be started" in told.splitlines()[-1]
