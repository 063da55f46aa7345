"""scripts/cloud/skypilot.yaml: what SkyPilot reads of it, and what it starts again."""

import importlib.util
import os
import shutil
import signal
import subprocess
from contextlib import suppress
from pathlib import Path

import pytest
import yaml

from yxanul import errors
from yxanul.config.load import load_config
from yxanul.plan.storage import disk_bytes, rollback_bytes

ROOT = Path(__file__).parents[2]
FILE = ROOT / "scripts" / "cloud" / "skypilot.yaml"
# Of SkyPilot's own schema, as far as the file uses it (sky/utils/schemas.py of 0.14.1).
KEYS = {"name", "workdir", "resources", "envs", "secrets", "setup", "run"}
RESOURCES = {"use_spot", "any_of", "disk_size", "job_recovery"}
NAMED = {
    "MIRROR": "s3://bucket/run",
    "DATA": "s3://bucket/data",
    "USD_PER_HOUR_A100": "6.88",
    "USD_PER_HOUR_H100": "12.16",
    "DEADLINE": "2999-01-01T00:00Z",
}


@pytest.fixture
def task() -> dict:
    return yaml.safe_load(FILE.read_text())


def started(
    task: dict, tmp_path: Path, *, has_program: bool = True, **named: str
) -> subprocess.CompletedProcess[str]:
    """Run the command of the file where rented.sh tells what it was given."""
    script = tmp_path / "scripts" / "cloud" / "rented.sh"
    script.parent.mkdir(parents=True, exist_ok=True)
    script.write_text('#!/bin/sh\necho "$USD_PER_HOUR $SETUP[$SHUTDOWN] $*"\n')
    card = tmp_path / "bin" / "nvidia-smi"
    card.parent.mkdir(exist_ok=True)
    card.write_text('#!/bin/sh\neval "${ANSWER:-}"\necho "$CARD"\n')
    for path in (script, card):
        path.chmod(0o755)
    path = f"{card.parent}{os.pathsep}{os.environ['PATH']}"
    if not has_program:  # nor any of what this machine has
        card.unlink()
        for name in ("bash", "date"):
            (card.parent / name).symlink_to(shutil.which(name))
        path = str(card.parent)
    given = task["envs"] | task["secrets"] | NAMED | named | {"PATH": path}
    assert " -t 60 " in task["run"]  # a minute is long for a test
    return subprocess.run(
        ["bash", "-c", task["run"].replace(" -t 60 ", " -t 3 ")],
        cwd=tmp_path,
        env=given,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_its_keys_are_those_that_sky_knows(task):
    assert set(task) == KEYS
    assert set(task["resources"]) == RESOURCES
    assert task["resources"]["use_spot"] is True
    cards = [one["accelerators"] for one in task["resources"]["any_of"]]
    assert cards == ["A100-80GB:8", "H100:8"]
    # What only the user knows has no value, and sky asks for it.
    assert {name for name, value in task["envs"].items() if value is None} == set(NAMED)
    strings = [value for value in task["envs"].values() if value is not None]
    assert all(isinstance(value, str) for value in strings)


def test_its_disk_holds_what_gates_may_lengthen_and_one_more_attempt_at_the_largest_stage(task):
    plan = load_config(ROOT / "configs")
    largest = max(rollback_bytes(plan, stage) for stage in plan.stages)
    system = 100e9
    assert disk_bytes(plan) + largest + system < task["resources"]["disk_size"] * 10**9


def test_only_what_another_start_may_cure_is_started_again(task):
    recovery = task["resources"]["job_recovery"]
    curable = [errors.StoppedOnRequest.exit_code, errors.InfrastructureError.exit_code]
    assert recovery == {"max_restarts_on_errors": 0, "recover_on_exit_codes": curable}


def test_its_commands_parse_and_exist(task):
    for text in (task["setup"], task["run"]):
        subprocess.run(["bash", "-n", "-c", text], check=True)
    assert (ROOT / "scripts" / "cloud" / "rented.sh").stat().st_mode & 0o100
    assert "scripts/cloud/rented.sh" in task["run"]


def test_the_price_is_that_of_the_card_that_was_found(task, tmp_path):
    told = {
        card: started(task, tmp_path, CARD=card).stdout
        for card in ("NVIDIA H100 80GB HBM3", "NVIDIA A100-SXM4-80GB")
    }
    rest = ":[] --data s3://bucket/data\n"
    assert list(told.values()) == [f"12.16 {rest}", f"6.88 {rest}"]


@pytest.mark.parametrize(
    "answer",
    [
        "trap '' TERM; echo NVIDIA H100; while :; do sleep 1; done",
        "echo No devices were found; exit 6",
        "exit 0",
    ],
    ids=["hangs", "fails", "silent"],
)
def test_a_machine_whose_driver_names_no_card_is_another_ones_turn(task, tmp_path, answer):
    answer = f"echo $$ > pid; {answer}"
    try:
        done = started(task, tmp_path, ANSWER=answer, CARD="")
        assert (done.returncode, done.stdout) == (errors.InfrastructureError.exit_code, "")
        assert "nvidia-smi names no card" in done.stderr
    finally:
        with suppress(ProcessLookupError):
            os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)


def test_a_container_without_the_drivers_programs_ends_the_job(task, tmp_path):
    """So does the next one, and 11 would be started again without a bound."""
    done = started(task, tmp_path, has_program=False, CARD="NVIDIA H100 80GB HBM3")
    assert (done.returncode, done.stdout) == (errors.UsageError.exit_code, "")
    assert "NVIDIA_DRIVER_CAPABILITIES=compute,utility" in done.stderr


def test_a_card_without_a_price_ends_the_job(task, tmp_path):
    """Another machine would be of the same kind, and 11 be started again without a bound."""
    done = started(task, tmp_path, CARD="NVIDIA L4")
    assert (done.returncode, done.stdout) == (errors.UsageError.exit_code, "")
    assert "the card is NVIDIA L4, of which this file has no price: any_of may" in done.stderr


def test_nothing_is_started_after_the_deadline_or_with_one_that_is_no_time(task, tmp_path):
    late = started(task, tmp_path, DEADLINE="2020-01-01T00:00Z")
    assert (late.returncode, late.stdout) == (errors.GateStopError.exit_code, "")
    assert "is over" in late.stderr
    wrong = started(task, tmp_path, DEADLINE="soon, I hope")
    assert (wrong.returncode, wrong.stdout) == (errors.UsageError.exit_code, "")


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("sky") is None, reason="SkyPilot is not installed")
@pytest.mark.filterwarnings("default")  # SkyPilot's own
def test_skypilots_own_parser_takes_it(monkeypatch, tmp_path):
    """In an environment with SkyPilot alone: pytest --noconftest -c /dev/null and this file."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(ROOT)
    import sky

    with pytest.raises(ValueError, match="MIRROR"):
        sky.Task.from_yaml(str(FILE))
    config = yaml.safe_load(FILE.read_text())
    task = sky.Task.from_yaml_config(config, env_overrides=list(NAMED.items()))
    found = {str(one.accelerators) for one in task.resources}
    assert found == {"{'A100-80GB': 8}", "{'H100': 8}"}
    for one in task.resources:
        assert one.use_spot
        assert one.job_recovery["recover_on_exit_codes"] == [10, 11]
        assert one.job_recovery["max_restarts_on_errors"] == 0
    assert task.envs["MIRROR"] == NAMED["MIRROR"]
