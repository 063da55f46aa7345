"""Live curves are the rows of metrics.jsonl, no more, no less, and never stop a run."""

import json
import os
import resource
import signal
import sqlite3
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.train.world import STEPS, World
from yxanul.runfolder.layout import RunFolder
from yxanul.train.outward.trackers import open_trackers, scalars_of

ROOT = Path(__file__).parents[2]


@pytest.fixture
def world(tmp_path):
    return World.create(tmp_path)


def curves(run: Path) -> dict[str, list[tuple[int, float]]]:
    """Return what TensorBoard's own reader finds: {curve: [(step, value), ...]}."""
    reader = EventAccumulator(str(run / "tensorboard"), size_guidance={"scalars": 0})
    reader.Reload()
    return {
        tag: [(event.step, event.value) for event in reader.Scalars(tag)]
        for tag in reader.Tags()["scalars"]
    }


def assert_curves_are_the_rows(run: Path, *, attempts: dict[int, int] | None = None) -> None:
    """`attempts` {attempt: last step of it that belongs to the run}; None = all of attempt 0."""
    limits = attempts or {0: 10**9}
    lines = (run / "metrics.jsonl").read_text().splitlines()
    rows = [row for row in map(json.loads, lines) if row["step"] <= limits[row["attempt"]]]
    found = curves(run)
    for tag in ("loss", "grad_norm", "learning_rate", "tokens_per_s", "seq_len", "tokens_seen"):
        assert [step for step, _ in found[tag]] == [row["step"] for row in rows], tag
        assert [value for _, value in found[tag]] == pytest.approx([row[tag] for row in rows])
    scored = [row for row in rows if row["bpb"]]
    for domain in {name for row in scored for name in row["bpb"]}:
        wanted = [(row["step"], row["bpb"][domain]) for row in scored if domain in row["bpb"]]
        assert found[f"bpb/{domain}"] == [(step, pytest.approx(value)) for step, value in wanted]


@pytest.mark.slow
def test_a_killed_run_draws_no_step_twice_and_says_one_line(world):
    world.kill("run", after_step=STEPS - 1)
    finished = world.finish("run", "run")
    assert_curves_are_the_rows(world.root / "run")
    told = [line for line in finished.stderr.splitlines() if "tensorboard" in line]
    assert told == [f"live curves: tensorboard --logdir {world.root / 'run' / 'tensorboard'}"]


@pytest.mark.slow
def test_a_run_stopped_and_taken_back_by_name_draws_the_new_branch(world):
    assert world.interrupt("run", after_step=STEPS + 3, signals=[signal.SIGINT]) == 10
    world.finish("run", "run", "--resume", f"step-{STEPS:08d}-a0")
    assert_curves_are_the_rows(world.root / "run", attempts={0: STEPS, 1: 10**9})


def row(step: int, **more: object) -> dict:
    clock = {"step": step, "attempt": 0, "stage": "a", "stage_step": step}
    return {**clock, "loss": 1.0 / step, **more}


def test_rows_that_go_back_take_back_what_was_drawn_after_them(tmp_path):
    with open_trackers(["tensorboard"], RunFolder(tmp_path), step=0, say=print) as trackers:
        for step in (1, 2, 3, 4, 5):
            trackers.log(row(step))
        trackers.log(row(3, attempt=1, loss=7.0))
        trackers.log(row(4, attempt=1, loss=8.0))
    found = curves(tmp_path)["loss"]
    assert found == [(1, 1.0), (2, 0.5), (3, 7.0), (4, 8.0)]


def test_every_number_of_a_row_is_a_curve_and_nothing_else():
    measured = {"bpb": {"math": 1.5, "code": 2}, "mfu": None, "seq_len": 64, "flag": True}
    assert scalars_of(row(4, **measured)) == {
        "loss": 0.25,
        "bpb/math": 1.5,
        "bpb/code": 2.0,
        "seq_len": 64.0,
    }


def test_without_trackers_nothing_is_drawn_or_said(world):
    more = ("--max_steps", "2", "--set", "logging.trackers=[]")
    assert "live curves" not in world.finish("run", "run", *more).stderr
    assert not (world.root / "run" / "tensorboard").exists()
    # They may be asked for later: no weight depends on them.
    world.finish("run", "run", "--max_steps", "4")
    assert [step for step, _ in curves(world.root / "run")["loss"]] == [3, 4]


def test_a_tracker_that_cannot_be_opened_is_said_once_and_the_run_goes_on(world):
    (world.root / "run").mkdir()
    (world.root / "run" / "tensorboard").write_text("in the way")
    stderr = world.finish("run", "run", "--max_steps", "3").stderr
    assert stderr.count("tensorboard is dropped, the run goes on without its curves") == 1
    assert "live curves" not in stderr


def test_a_tracker_that_fails_later_is_said_once_and_dropped(tmp_path):
    """The system's own limit on the size of a file stands for a full disk."""
    said: list[str] = []
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with open_trackers(["tensorboard"], RunFolder(tmp_path), step=0, say=said.append) as trackers:
        resource.setrlimit(resource.RLIMIT_FSIZE, (600, hard))
        try:
            for step in range(1, 50):
                trackers.log(row(step))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [line.partition(":")[0] for line in said] == [
        "live curves",
        "tensorboard is dropped, the run goes on without its curves",
    ]
    drawn = curves(tmp_path)["loss"]
    assert drawn == [(step, pytest.approx(1.0 / step)) for step in range(1, len(drawn) + 1)]
    assert 0 < len(drawn) < 49


def test_a_package_that_cannot_be_loaded_is_said_in_one_line_and_the_run_goes_on(
    tmp_path, monkeypatch
):
    """As TensorBoard beside a protobuf of another age, which gives a page of advice."""
    place = tmp_path / "tensorboard.py"
    place.write_text("raise TypeError('Descriptors cannot be created directly.\\nIf this call')")
    for name in [name for name in sys.modules if name.partition(".")[0] == "tensorboard"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(str(tmp_path))
    said: list[str] = []
    with open_trackers(["tensorboard"], RunFolder(tmp_path), step=0, say=said.append) as trackers:
        trackers.log(row(1))
    assert said == [
        "tensorboard is dropped, the run goes on without its curves: "
        "Descriptors cannot be created directly."
    ]


@pytest.mark.parametrize("asked", [None, "online"])
def test_wandb_stays_offline_unless_its_own_variable_says_otherwise(tmp_path, monkeypatch, asked):
    if asked is None:
        monkeypatch.delenv("WANDB_MODE", raising=False)
    else:
        monkeypatch.setenv("WANDB_MODE", asked)
    begun: list[dict] = []
    package = ModuleType("wandb")
    vars(package).update(
        Settings=dict, init=lambda **options: begun.append(options), finish=lambda: None
    )
    monkeypatch.setitem(sys.modules, "wandb", package)
    said: list[str] = []
    with open_trackers(["wandb"], RunFolder(tmp_path), step=0, say=said.append):
        pass
    assert [options["mode"] for options in begun] == [asked or "offline"]
    assert said == [
        f"live curves: WANDB_MODE={asked}"
        if asked
        else f"live curves: wandb sync {tmp_path / 'wandb'}/offline-run-*"
    ]


def test_whatever_a_tracker_raises_is_said_once(tmp_path, monkeypatch):
    """As Trackio's database does that another program holds, and its end then."""

    def fail(*_args: object, **_options: object) -> None:
        raise sqlite3.OperationalError("database is locked")

    package = ModuleType("trackio")
    vars(package).update(init=lambda **_options: None, log=fail, finish=fail)
    monkeypatch.setitem(sys.modules, "trackio", package)
    said: list[str] = []
    with open_trackers(["trackio"], RunFolder(tmp_path), step=0, say=said.append) as trackers:
        for step in (1, 2, 3):
            trackers.log(row(step))
    assert [line.partition(":")[0] for line in said] == [
        "live curves",
        "trackio is dropped, the run goes on without its curves",
    ]
    assert said[1].endswith("database is locked; nor could it be closed: database is locked")


def test_files_of_others_in_the_folder_do_no_harm(tmp_path):
    place = tmp_path / "tensorboard"
    place.mkdir()
    (place / "events.out.tfevents.1700000000.host.1.0.v2").write_bytes(b"")
    (place / "notes.txt").write_text("mine")
    with open_trackers(["tensorboard"], RunFolder(tmp_path), step=0, say=print) as trackers:
        trackers.log(row(1))
    assert curves(tmp_path)["loss"] == [(1, 1.0)]


def test_an_installed_tensorflow_is_not_imported(tmp_path):
    """It takes seconds and talks on stderr; TensorBoard imports it where it can."""
    fake = tmp_path / "tensorflow"
    fake.mkdir()
    (fake / "__init__.py").write_text("raise RuntimeError('tensorflow was imported')\n")
    program = (
        "from pathlib import Path\n"
        "from yxanul.runfolder.layout import RunFolder\n"
        "from yxanul.train.outward.trackers import open_trackers\n"
        f"folder = RunFolder(Path({str(tmp_path)!r}))\n"
        "with open_trackers(['tensorboard'], folder, step=0, say=print) as trackers:\n"
        "    trackers.log({'step': 1, 'loss': 2.0})\n"
    )
    path = os.pathsep.join([str(tmp_path), str(ROOT / "src")])
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert curves(tmp_path)["loss"] == [(1, 2.0)]


@pytest.mark.parametrize("name", ["wandb", "trackio"])
def test_a_missing_tracker_is_refused_before_anything_is_done(world, name):
    if find_spec(name) is not None:
        pytest.skip(f"{name} is installed")
    stderr = world.finish("run", "run", "--set", f"logging.trackers=[{name}]", code=30).stderr
    assert len(stderr.strip().splitlines()) == 1
    for part in (f"logging.trackers names {name}", 'pip install "yxanul[track]"'):
        assert part in stderr
    assert not (world.root / "run").exists()


@pytest.mark.parametrize("value", ["wandb", "[wandbb]", "null"])
def test_a_wrong_tracker_is_named_with_the_choices(world, value):
    stderr = world.finish("run", "run", "--set", f"logging.trackers={value}", code=30).stderr
    assert "logging.trackers" in stderr
    assert "Traceback" not in stderr


def start_with(world: World, name: str, *more: str) -> subprocess.CompletedProcess:
    """Run in a process of its own, which the tracker's threads end with; offline, in the folder."""
    path = os.pathsep.join(["src", os.environ.get("PYTHONPATH", "src")])
    environment = {
        "PYTHONPATH": path,
        "TRACKIO_DIR": str(world.root / "trackio"),
        "WANDB_MODE": "offline",
    }
    process = world.start("run", "run", "--set", f"logging.trackers=[{name}]", *more, **environment)
    stdout, stderr = process.communicate(timeout=120)
    return subprocess.CompletedProcess(process.args, process.returncode, stdout, stderr)


@pytest.mark.skipif(find_spec("wandb") is None, reason="wandb is not installed")
def test_wandb_keeps_one_offline_run_per_start(world):
    for steps in ("2", "4"):
        done = start_with(world, "wandb", "--max_steps", steps, "--json")
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["steps"] == int(steps)
        assert done.stderr.count("live curves: wandb sync") == 1
    starts = list((world.root / "run" / "wandb").glob("offline-run-*"))
    assert len(starts) == 2
    assert all(list(start.glob("*.wandb")) for start in starts)


@pytest.mark.skipif(find_spec("trackio") is None, reason="trackio is not installed")
def test_trackio_keeps_one_local_run_per_start(world):
    for steps in ("2", "4"):
        done = start_with(world, "trackio", "--max_steps", steps, "--json")
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["steps"] == int(steps)
        assert done.stderr.count("live curves: trackio show --project") == 1
    assert list((world.root / "trackio").glob("*.db"))
