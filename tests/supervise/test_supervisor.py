"""A supervised run of real processes: killed, stopped and refused."""

import contextlib
import json
import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.needs import PROC
from tests.train.world import STAGES, STEPS, World, fingerprint, last_step, wait_until
from yxanul.failpoints import VARIABLE as FAILPOINTS
from yxanul.runfolder.layout import RunFolder
from yxanul.runfolder.supervised import BEGUN_VARIABLE, NAMED_VARIABLE, VARIABLE
from yxanul.supervise.supervisor import _is_launcher, _start_once, _Stop

# A program that saves, when it is asked to stop, until it may go; a minute at most.
SAVES = """
import pathlib, signal, sys, time
def save(*_):
    for _ in range(3000):
        if pathlib.Path(sys.argv[1], "go").exists():
            pathlib.Path(sys.argv[1], "saved").touch()
            break
        time.sleep(0.02)
    sys.exit()
signal.signal(signal.SIGTERM, save)
pathlib.Path(sys.argv[1], "ready").touch()
for _ in range(3000):  # a signal just before one long sleep would be seen after it
    time.sleep(0.02)
"""
# Tells which run folder and checkpoint its supervisor names; names one each itself in its first
# start, and fails twice.
FAILS_TWICE = f"""
import json, os, pathlib, sys
note, starts = pathlib.Path(os.environ["{VARIABLE}"]), pathlib.Path(sys.argv[1], "starts")
print(os.environ.get("{BEGUN_VARIABLE}"), os.environ.get("{NAMED_VARIABLE}"), flush=True)
count = len(starts.read_text()) if starts.exists() else 0
starts.write_text("x" * (count + 1))
place = {{"run_folder": sys.argv[1], "named": "a/checkpoint"}} if count == 0 else {{}}
news = {{"code": 11, "reason": "no network", **place}}
if count < 2:
    note.write_text(json.dumps(news) + chr(10))
    sys.exit(11)
"""
# A program of three starts: the first finds no folder for what it tells, and fails; what the second
# told is cleared away before it fails; the third does not fail.
CLEARED = """
import json, os, pathlib, shutil, sys, time
from yxanul.runfolder.supervised import VARIABLE, tell_run_folder, tell_supervisor
run = pathlib.Path(sys.argv[1])
starts = len(list(run.glob("start-*")))
(run / f"start-{starts}").touch()
if starts == 0:
    shutil.rmtree(pathlib.Path(os.environ[VARIABLE]).parent)
tell_run_folder(run)
if starts == 0:
    tell_supervisor(code=11, reason="no network")
if starts == 1:
    record = {"code": 11, "reason": "no network", "ended_at": time.time(), "pid": os.getpid()}
    (run / "exit.json").write_text(json.dumps(record))
    shutil.rmtree(pathlib.Path(os.environ[VARIABLE]).parent)
sys.exit(11 if starts < 2 else 0)
"""
PAUSE = {FAILPOINTS: "step.updated=pause@3"}
SUPERVISE = [sys.executable, "-m", "yxanul", "supervise", "--backoff_s", "0.1", "--"]


@pytest.fixture
def world(tmp_path) -> World:
    return World.create(tmp_path)


def supervised(*command: str, **more: str) -> subprocess.Popen:
    return subprocess.Popen(
        [*SUPERVISE, *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": "src", **more},
    )


def ranks(command: list[str]) -> list[str]:
    """Return the command in two processes of torchrun's."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    return [*launcher, "--nproc_per_node", "2", *command[1:]]


def standing_still(process: subprocess.Popen, *, count: int = 1) -> list[int]:
    """Wait until failpoints have paused so many processes below one; return their ids by rank."""
    wait_until(lambda: len(paused(process.pid)) == count, process)
    return sorted(paused(process.pid), key=rank_of)


def paused(process: int) -> list[int]:
    """Return the ids of those that stand still, of a process and of all below it."""
    with contextlib.suppress(OSError):  # one ends while it is looked at
        return [one for one in (process, *descendants(process)) if "State:\tT" in status(one)]
    return []


def rank_of(process: int) -> bytes:
    words = Path(f"/proc/{process}/environ").read_bytes().split(b"\0")
    return next((word for word in words if word.startswith(b"RANK=")), b"")


def has_heard(process: int, number: int) -> bool:
    """The signal has reached a process that stands still."""
    return f"ShdPnd:\t{1 << number - 1:016x}" in status(process)


def children(process: int) -> list[int]:
    text = Path(f"/proc/{process}/task/{process}/children").read_text()
    return [int(word) for word in text.split()]


def descendants(process: int) -> list[int]:
    return [one for child in children(process) for one in (child, *descendants(child))]


def status(process: int) -> str:
    return Path(f"/proc/{process}/status").read_text()


@pytest.mark.slow
def test_a_run_that_is_killed_goes_on_to_the_same_weights(world):
    world.finish("run", "unbroken")
    # In each start, as its third checkpoint is there: of steps 8 and 15.
    kill = {FAILPOINTS: "checkpoint.renamed=kill@3"}
    process = supervised(*world.command("run", "run"), **kill)
    _, told = process.communicate(timeout=120)
    assert process.returncode == 0, told
    assert told.count("ended by SIGKILL, without a record") == 2
    wanted, found = (world.checkpoints(name)[-1] for name in ("unbroken", "run"))
    assert fingerprint(found) == fingerprint(wanted)


@PROC
def test_who_stops_the_supervisor_stops_the_run_once_and_it_is_saved(world):
    process = supervised(*world.command("run", "run"), **PAUSE)
    (run,) = standing_still(process)
    process.send_signal(signal.SIGTERM)
    wait_until(lambda: has_heard(run, signal.SIGTERM), process)
    os.kill(run, signal.SIGCONT)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 10, told
    assert "asked to stop" in told
    assert "started again" not in told
    assert world.exit_record("run")["code"] == 10


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["SIGINT", "SIGTERM"]
)
def test_who_stops_the_supervisor_while_it_waits_is_seen_in_its_code(tmp_path, number, code):
    """The last start's own code would say that nobody is there, and shut a machine down."""
    words = [sys.executable, "-c", FAILS_TWICE, str(tmp_path)]
    process = subprocess.Popen(
        [*SUPERVISE[:-2], "60", "--json", "--", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": "src"},
    )
    for line in process.stderr:
        if "started again in 60 s" in line:
            break
    process.send_signal(number)
    result, told = process.communicate(timeout=60)
    assert process.returncode == code, told
    assert "asked to stop; nothing was started again" in told
    assert json.loads(result)["exit_code"] == code, "one object"


def test_a_stop_that_comes_as_a_wait_begins_ends_it():
    """Whatever is being done there: no lock may be held then that the signal's receiver takes."""
    storm = """
import signal
from yxanul.supervise import supervisor
supervisor.LOOK_S = 0.001
for n in range(300):
    stop = supervisor._Stop()
    signal.signal(signal.SIGALRM, stop._receive)
    signal.setitimer(signal.ITIMER_REAL, 1e-6 * (1 + n % 60))
    assert stop.wait(30.0)
"""
    command, path = [sys.executable, "-c", storm], {**os.environ, "PYTHONPATH": "src"}
    assert subprocess.run(command, env=path, check=False, timeout=60).returncode == 0


def test_what_a_script_has_started_is_asked_to_stop_as_well_and_waited_for(tmp_path):
    """bash hands no signal on, and SIGTERM ends it at once."""
    line = shlex.join([sys.executable, "-c", SAVES, str(tmp_path)])
    process = supervised("bash", "-c", f"{line}; true")
    wait_until((tmp_path / "ready").exists, process)
    process.send_signal(signal.SIGTERM)
    try:
        assert any("which is waited for" in told for told in process.stderr)
    finally:
        (tmp_path / "go").touch()
    _, told = process.communicate(timeout=60)
    assert process.returncode == 143, told
    assert (tmp_path / "saved").exists()


def test_what_a_command_leaves_beside_no_run_is_not_waited_for(tmp_path):
    line = shlex.join([sys.executable, "-c", SAVES, str(tmp_path)])
    process = supervised("bash", "-c", f"{line} >&- 2>&- & echo $!")
    told, _ = process.communicate(timeout=30)
    assert process.returncode == 0
    os.kill(int(told), signal.SIGKILL)


@PROC
@pytest.mark.slow
def test_who_stops_the_supervisor_stops_a_run_that_a_script_has_started(world):
    line = shlex.join(world.command("run", "run"))
    process = supervised("bash", "-c", f"{line}; true", **PAUSE)
    (run,) = standing_still(process)
    process.send_signal(signal.SIGTERM)
    wait_until(lambda: has_heard(run, signal.SIGTERM), process)
    os.kill(run, signal.SIGCONT)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 10, told
    assert world.exit_record("run")["code"] == 10
    assert not RunFolder(world.root / "run").is_held_elsewhere()


@PROC
@pytest.mark.slow
def test_a_run_whose_script_was_killed_is_waited_for_to_its_end(world):
    line = shlex.join(world.command("run", "run"))
    process = supervised("bash", "-c", f"{line}; true", **PAUSE)
    (run,) = standing_still(process)
    os.kill(children(process.pid)[0], signal.SIGKILL)  # bash, whose run goes on
    os.kill(run, signal.SIGCONT)
    _, told = process.communicate(timeout=120)
    assert process.returncode == 0, told
    assert last_step(world.root / "run" / "metrics.jsonl") == 2 * STEPS


@pytest.mark.slow
def test_the_second_of_two_stages_in_a_script_is_not_done_when_it_was_refused(world):
    stages = [
        shlex.join(world.command("train", "run", "--stage", name, *more))
        for name, more in zip(STAGES, ((), ("--set", "typo=1")), strict=True)
    ]
    process = supervised("bash", "-c", " && ".join(stages))
    _, told = process.communicate(timeout=120)
    assert world.exit_record("run")["code"] == 0
    assert process.returncode == 30, told
    assert "typo" in told.splitlines()[-1]


@pytest.mark.slow
def test_a_stop_of_the_run_itself_is_a_reason_to_start_it_again(world):
    """As when a spot machine warns the process and then stays."""
    stop = {FAILPOINTS: f"step.updated=stop@{STEPS + 2}"}  # the second start has fewer steps to do
    process = supervised(*world.command("run", "run"), **stop)
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


@PROC
@pytest.mark.slow
def test_a_rank_that_is_killed_is_a_failure_that_may_pass(world):
    world.launch("run", "unbroken")
    # In the second stage, of which the second start has too few steps left to stand still again.
    pause = {FAILPOINTS: f"step.updated=pause@{STEPS + 1}"}
    process = supervised(*ranks(world.command("run", "run")), **pause)
    both = standing_still(process, count=2)
    os.kill(both[0], signal.SIGCONT)
    os.kill(both[1], signal.SIGKILL)
    _, told = process.communicate(timeout=240)
    assert process.returncode == 0, told
    assert "started again in" in told
    wanted, found = (world.checkpoints(name)[-1] for name in ("unbroken", "run"))
    assert fingerprint(found) == fingerprint(wanted)


@PROC
@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"])
def test_who_stops_the_supervisor_stops_the_ranks_of_a_launcher_once_and_they_are_saved(
    world, number
):
    """As when a spot machine is called back: torchrun hands the stop on, in its own time."""
    process, run = supervised(*ranks(world.command("run", "run")), **PAUSE), world.root / "run"
    both = standing_still(process, count=2)
    process.send_signal(number)
    wait_until(lambda: all(has_heard(rank, number) for rank in both), process)
    for rank in both:
        os.kill(rank, signal.SIGCONT)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 10, told
    assert "started again" not in told
    assert world.exit_record("run")["code"] == 10
    assert not RunFolder(run).is_held_elsewhere()
    saved = world.checkpoints("run")[-1].name
    assert saved.startswith(f"step-{last_step(run / 'metrics.jsonl'):08d}"), "what it had trained"


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


def test_a_command_that_fails_by_itself_is_started_once():
    process = supervised("false")
    _, told = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "another start would end the same way" in told


def test_a_launcher_that_fails_is_started_three_times(tmp_path):
    """A rank may have been killed: torchrun does not say."""
    launcher = tmp_path / "torchrun"
    launcher.write_text("#!/bin/sh\nexit 1\n")
    launcher.chmod(0o755)
    process = supervised(str(launcher))
    _, told = process.communicate(timeout=60)
    assert process.returncode == 1
    assert told.count("started again in") == 2
    assert "it failed 3 times before its first step" in told


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("torchrun --nproc_per_node 2 -m yxanul run", True),
        ("env X=1 python -m torch.distributed.run -m yxanul run", True),
        ("/opt/bin/deepspeed src/trainer.py", True),
        ("conda run -n yxanul torchrun -m yxanul run", True),
        ("python -m yxanul run --out runs/deepspeed", False),
        ("/opt/bin/yxanul run --out torchrun", False),
        ("python src/trainer.py --out runs/deepspeed", False),
        ("yxanul run --out runs/deepspeed --data /data/yxanul", False),
        ("conda run -n yxanul python -m torch.distributed.run -m yxanul train", True),
    ],
)
def test_a_launcher_is_named_before_the_program(line, expected):
    assert _is_launcher(line.split()) is expected


def test_a_command_that_is_not_there_is_one_sentence():
    process = supervised("no-such-command-of-ours")
    _, told = process.communicate(timeout=60)
    assert process.returncode == 30
    assert "no-such-command-of-ours cannot be started" in told.splitlines()[-1]


def test_every_later_start_is_told_which_run_an_earlier_one_has_come_to(tmp_path):
    """The second start ends before it comes to the run, and the third must hear of it still."""
    process = supervised(sys.executable, "-c", FAILS_TWICE, str(tmp_path))
    out, told = process.communicate(timeout=60)
    assert process.returncode == 0, told
    told = f"{tmp_path} a/checkpoint"
    assert out.splitlines() == ["None None", told, told]


def test_a_run_whose_note_is_cleared_away_ends_as_itself_and_is_started_again(tmp_path):
    """/tmp is cleared of what has lain there for ten days, and a start may live longer."""
    process = supervised(sys.executable, "-c", CLEARED, str(tmp_path))
    _, told = process.communicate(timeout=60)
    assert process.returncode == 0, told
    assert told.count("it ended with 11 (no network)") == 2
    assert told.count("started again in") == 2


@pytest.mark.slow
@pytest.mark.parametrize("words", [("--fresh",), ("--resume", "never")], ids=" ".join)
def test_a_run_that_was_to_begin_anew_is_started_again_after_a_kill(world, words):
    # A start that began anew would be killed as well.
    kill = {FAILPOINTS: f"step.updated=kill@{STEPS + 1}"}
    process = supervised(*world.command("run", "run", *words), **kill)
    _, told = process.communicate(timeout=120)
    assert process.returncode == 0, told
    assert told.count("started again in") == 1
    assert last_step(world.root / "run" / "metrics.jsonl") == 2 * STEPS


def test_how_long_a_start_has_lived_is_measured(tmp_path):
    """By its life the policy tells one that prepares data from one that fails at once."""
    ending = _start_once(
        ["true"], tmp_path / "note", come_to={}, stop=_Stop(), stdout=None, say=print
    )
    assert ending.lived_s > 0.0
