"""scripts/cloud/rented.sh: what it starts, how it ends, and when it may shut a machine down.

The fast tests put a small program in the interpreter's place, which writes down what it is asked
for and leaves as it is told; the slow one trains.
"""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from tests.needs import FULL_DISK
from tests.train.world import STEPS, World, last_step

ROOT = Path(__file__).parents[2]
INTERPRETER = """#!/bin/bash
case "$2" in *device_count*) echo 0 && exit ;; esac
echo "$*" >> calls
case "$*" in
    *" preflight "*) exit "${PREFLIGHT_CODE:-0}" ;;
    *" supervise "*)
        if [ -n "${RUN_WAITS:-}" ]; then
            trap 'echo stopped >> calls; exit 10' TERM
            # Of a signal that was ignored when the shell began, nothing is caught.
            trap 'exit 130' INT
            touch listening
            until [ -e over ]; do sleep 0.05; done
        fi
        exit "${RUN_CODE:-0}" ;;
esac
"""
# Tests in a script's background ignore it, and a shell catches nothing that it began by ignoring.
HEEDING = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.SIG_DFL)
os.execv(sys.argv[1], sys.argv[1:])
"""
MINE = ("RUN", "CONFIG_DIR", "MIRROR", "USD_PER_HOUR", "BUDGET_USD", "NPROC", "SETUP", "SHUTDOWN")
pytestmark = pytest.mark.skipif(shutil.which("flock") is None, reason="no flock on this system")


def program(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)


def environment(checkout: Path, **env: str) -> dict[str, str]:
    plain = {name: value for name, value in os.environ.items() if name not in MINE}
    path = f"{checkout / 'bin'}{os.pathsep}{plain['PATH']}"
    return {**plain, "PATH": path, "SETUP": "echo set-up >> calls", **env}


@pytest.fixture
def checkout(tmp_path) -> Path:
    """A checkout with the real scripts, no card, and the program in the interpreter's place."""
    place = tmp_path / "checkout"
    shutil.copytree(ROOT / "scripts", place / "scripts")
    program(place / ".venv" / "bin" / "python", INTERPRETER)
    program(place / "bin" / "nvidia-smi", "#!/bin/sh\nexit 9\n")
    return place


def rented(checkout: Path, *words: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [checkout / "scripts" / "cloud" / "rented.sh", *words],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env=environment(checkout, **env),
    )


def calls(checkout: Path) -> list[str]:
    """Return what was started, word for word."""
    path = checkout / "calls"
    return path.read_text().splitlines() if path.exists() else []


def at_work(
    checkout: Path, *, stdout: int | None = None, stderr: int = subprocess.PIPE, **env: str
) -> subprocess.Popen[str]:
    """Return the script, in a group of its own, when its run has begun.

    That waits to be asked to stop, or for a file `over`.
    """
    process = subprocess.Popen(
        [sys.executable, "-c", HEEDING, checkout / "scripts" / "cloud" / "rented.sh"],
        stdout=stdout,
        stderr=stderr,
        text=True,
        start_new_session=True,
        env=environment(checkout, RUN_WAITS="yes", **env),
    )
    deadline = time.monotonic() + 30
    while not (checkout / "listening").exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return process


def test_set_up_preflight_and_run_get_the_same_settings(checkout):
    money = {"MIRROR": "/mirror", "USD_PER_HOUR": "12.80", "BUDGET_USD": "200"}
    done = rented(checkout, "--data", "hub", RUN="one", CONFIG_DIR="configs/x", NPROC="2", **money)
    assert done.returncode == 0, done.stderr
    set_up, looked, ran = calls(checkout)
    settings = (
        "--config_dir configs/x --out runs/one --data hub --set checkpoint.mirror=/mirror "
        "--set budget.usd_per_hour=12.80 --set budget.usd=200"
    )
    assert set_up == "set-up"
    assert looked == f"-m yxanul preflight {settings} --nproc 2"
    assert ran.startswith("-m yxanul supervise -- ")
    assert "--nproc_per_node 2 -m yxanul run " in ran
    assert ran.endswith(settings)  # behind launch.sh's own --config_dir: the last one counts


@pytest.mark.parametrize(
    ("env", "code", "started"),
    [
        ({}, 0, 3),
        ({"RUN_CODE": "33"}, 33, 3),
        ({"RUN_CODE": "11"}, 11, 3),
        ({"PREFLIGHT_CODE": "20"}, 20, 2),
        ({"SETUP": "exit 2"}, 2, 0),
    ],
    ids=["done", "diverged", "failed three times", "over the budget", "no set-up"],
)
def test_it_shuts_down_however_it_ends_and_only_where_it_is_asked_to(checkout, env, code, started):
    done = rented(checkout, **env)
    assert done.returncode == code
    assert len(calls(checkout)) == started
    assert "the machine is left on" in done.stderr
    done = rented(checkout, SHUTDOWN="echo off >> off", **env)
    assert done.returncode == code
    assert (checkout / "off").read_text() == "off\n"


@pytest.mark.parametrize("opened", [os.openpty, os.pipe], ids=["dropped ssh", "killed tee"])
def test_it_shuts_down_where_nobody_reads_any_more_what_it_says(checkout, opened):
    reader, writer = opened()
    off = "echo stopping && echo stopping >&2 && echo off >> off"
    process = at_work(checkout, stdout=writer, stderr=writer, SHUTDOWN=off, RUN_CODE="20")
    os.close(writer)
    os.close(reader)
    (checkout / "over").touch()
    assert process.wait(timeout=30) == 20
    assert (checkout / "off").read_text() == "off\n"


@FULL_DISK
def test_it_shuts_down_where_the_disk_of_its_log_is_full(checkout):
    off = "echo stopping && echo stopping >&2 && echo off >> off"
    with Path("/dev/full").open("w") as full:
        log = full.fileno()
        process = at_work(checkout, stdout=log, stderr=log, SHUTDOWN=off)
    (checkout / "over").touch()
    assert process.wait(timeout=30) == 0
    assert (checkout / "off").read_text() == "off\n"


@pytest.mark.parametrize("code", [10, 130, 143])
def test_a_stop_of_the_supervisor_itself_leaves_the_machine_on(checkout, code):
    done = rented(checkout, SHUTDOWN="echo off >> off", RUN_CODE=str(code))
    assert done.returncode == code
    assert "asked to stop; the machine is left on" in done.stderr
    assert not (checkout / "off").exists()


def test_a_shut_down_that_fails_is_tried_again_said_aloud_and_changes_no_code(checkout):
    program(checkout / "bin" / "sleep", '#!/bin/sh\necho "$1" >> pauses\n')
    done = rented(checkout, SHUTDOWN="echo off >> off; exit 7", RUN_CODE="20")
    assert done.returncode == 20
    assert "SHUTDOWN FAILED: the machine is on" in done.stderr
    assert (checkout / "off").read_text().split() == ["off"] * 5
    assert (checkout / "pauses").read_text().split() == ["15", "30", "60", "120"]


def test_a_shut_down_that_works_in_the_end_is_not_tried_again(checkout):
    program(checkout / "bin" / "sleep", '#!/bin/sh\necho "$1" >> pauses\n')
    done = rented(checkout, SHUTDOWN="echo off >> off; grep -c off off | grep -q 3")
    assert done.returncode == 0
    assert "SHUTDOWN FAILED" not in done.stderr
    assert (checkout / "pauses").read_text().split() == ["15", "30"]


def test_a_second_start_beside_the_first_starts_and_shuts_down_nothing(checkout):
    process = at_work(checkout)
    second = rented(checkout, SHUTDOWN="echo off >> off", PREFLIGHT_CODE="11")
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=30)
    assert second.returncode == 30
    assert "another one is at work" in second.stderr
    assert len(calls(checkout)) == 4, "three of the first, and its stop"
    assert not (checkout / "off").exists()
    assert process.returncode == 10


def test_what_the_set_up_leaves_at_work_holds_no_lock(checkout):
    daemon = "sleep 60 >/dev/null 2>&1 & echo $! > daemon"
    try:
        assert rented(checkout, SETUP=daemon).returncode == 0
        assert rented(checkout).returncode == 0
    finally:
        os.kill(int((checkout / "daemon").read_text()), signal.SIGKILL)


def test_a_machine_without_flock_is_told_so_and_nothing_is_started(checkout):
    for name in ("bash", "dirname"):
        (checkout / "only" / name).parent.mkdir(exist_ok=True)
        (checkout / "only" / name).symlink_to(shutil.which(name))
    done = rented(checkout, PATH=str(checkout / "only"), SHUTDOWN="echo off >> off")
    assert done.returncode == 30
    assert "flock is not on PATH" in done.stderr
    assert calls(checkout) == []


@pytest.mark.parametrize("key", ["", "KEY=1 OTHER=2 "], ids=["plain", "after a key"])
def test_a_shut_down_whose_program_is_not_there_is_told_before_the_run(checkout, key):
    program(checkout / "bin" / "sleep", "#!/bin/sh\n")
    wanted = {"SHUTDOWN": f"{key}no-such-program stop instance 1234"}
    done = rented(checkout, **wanted)
    assert done.returncode == 30
    assert "SHUTDOWN begins with 'no-such-program'" in done.stderr
    assert "SHUTDOWN FAILED: the machine is on" in done.stderr
    assert calls(checkout) == ["set-up"]
    # The set-up may install it.
    program(checkout / "no-such-program", '#!/bin/sh\necho "$*" > off\n')
    assert rented(checkout, SETUP="mv no-such-program bin", **wanted).returncode == 0
    assert (checkout / "off").read_text() == "stop instance 1234\n"


@pytest.mark.parametrize(
    "command",
    [
        "~/off.sh",
        "$HOME/off.sh now",
        '"$HOME/off.sh"',
        "(true; ~/off.sh)",
        'NOTE="a b" ~/off.sh',
        "NOTE='a b c' ~/off.sh",
        "if true; then ~/off.sh; fi",
        "true&& ~/off.sh",
    ],
)
def test_a_shut_down_that_is_the_shells_matter_is_left_to_it(checkout, command):
    program(checkout / "off.sh", f"#!/bin/sh\necho off > {checkout}/off\n")
    done = rented(checkout, SHUTDOWN=command, HOME=str(checkout))
    assert done.returncode == 0, done.stderr
    assert (checkout / "off").exists()


@pytest.mark.parametrize(
    ("words", "package"),
    [
        (("--data", "s3://bucket/data"), "s3fs"),
        (("--data=s3://bucket/date=1",), "s3fs"),
        (("--set", "checkpoint.mirror=gs://bucket/run"), "gcsfs"),
        (("--data=hub",), None),
    ],
)
def test_what_an_address_needs_is_looked_for_however_it_is_written(checkout, words, package):
    assert rented(checkout, *words).returncode == 0
    looked = [line for line in calls(checkout) if line.startswith("-c import")]
    assert looked == ([] if package is None else [f"-c import {package}"])


def test_a_stop_reaches_the_run_and_leaves_the_machine_on(checkout):
    """SIGTERM goes to the script alone, as some hosts send it; a SIGHUP changes nothing."""
    process = at_work(checkout, SHUTDOWN="echo off >> off")
    process.send_signal(signal.SIGHUP)
    process.send_signal(signal.SIGTERM)
    told = process.communicate(timeout=30)[1]
    assert process.returncode == 10
    assert calls(checkout)[-1] == "stopped"
    assert "the machine is left on" in told
    assert not (checkout / "off").exists()


def test_a_ctrl_c_before_the_supervisor_listens_stops_the_run(checkout):
    process = at_work(checkout, SHUTDOWN="echo off >> off")
    os.killpg(process.pid, signal.SIGINT)
    try:
        told = process.communicate(timeout=60)[1]
    finally:
        (checkout / "over").touch()
    assert process.returncode == 130
    assert "the machine is left on" in told
    assert not (checkout / "off").exists()


def test_a_stop_that_comes_as_the_run_is_started_reaches_it(checkout):
    """The shell sends it to itself, before it takes down whom it has started."""
    early = """trap 'if [ "$BASH_COMMAND" = "child=\\$!" ]; then kill -TERM $$; fi' DEBUG"""
    (checkout / "early").write_text(early)
    named = {"BASH_ENV": str(checkout / "early"), "RUN_WAITS": "yes"}
    process = rented(checkout, SHUTDOWN="echo off >> off", **named)
    assert process.returncode in (10, 143), "the supervisor's, or before there was one"
    assert "asked to stop; the machine is left on" in process.stderr
    assert not (checkout / "off").exists()


@pytest.mark.slow
def test_a_second_machine_goes_on_from_the_mirror_of_the_first(checkout, tmp_path):
    """The command of skypilot.yaml, on a machine with nothing but the checkout."""
    world, mirror = World.create(tmp_path), tmp_path / "mirror"
    world.finish("run", "first", "--max_steps", "9", "--set", f"checkpoint.mirror={mirror}")
    program(checkout / ".venv" / "bin" / "python", f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    # The task asks what the card is called, and nobody else is answered.
    called = "#!/bin/sh\n[ $1 = --id=0 ] && echo NVIDIA A100-SXM4-80GB\n"
    program(checkout / "bin" / "nvidia-smi", called)
    (checkout / "src").symlink_to(ROOT / "src")
    task = yaml.safe_load((ROOT / "scripts" / "cloud" / "skypilot.yaml").read_text())
    named = {
        "CONFIG_DIR": str(tmp_path / "configs"),
        "DATA": str(tmp_path / "texts"),
        "MIRROR": str(mirror),
        "USD_PER_HOUR_A100": "8",
        "USD_PER_HOUR_H100": "16",
        "DEADLINE": "2999-01-01",
    }
    second = subprocess.run(
        ["bash", "-c", task["run"]],
        cwd=checkout,
        env=environment(checkout, **(task["envs"] | task["secrets"] | named)),
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert second.returncode == 0, second.stderr
    assert "ready to begin" in second.stdout
    assert "holds a run, which is brought to" in second.stderr
    assert last_step(checkout / "runs" / "promised" / "metrics.jsonl") == 2 * STEPS
    # What docs/cloud.md says: run/ and checkpoints/ of the mirror make a run folder.
    back = tmp_path / "back"
    shutil.copytree(mirror / "run", back)
    shutil.copytree(mirror / "checkpoints", back / "checkpoints")
    done = subprocess.run(
        [sys.executable, "-m", "yxanul", "report", str(back)],
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert (back / "report.html").exists()
