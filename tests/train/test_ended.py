"""A run that has ended says so on a machine in another's place, and prepares nothing there."""

import json
import shutil

import pytest
import torch

from tests.train.world import (
    BATCH_TOKENS,
    STAGES,
    STEPS,
    World,
    deterministic_rows,
    fingerprint,
    finished_world,
)
from yxanul.curriculum.course import read_frozen_config
from yxanul.errors import GateStopError
from yxanul.runfolder.layout import RunFolder
from yxanul.runfolder.mirror import Mirror
from yxanul.runfolder.verdicts import read_verdicts, write_override


@pytest.fixture
def ended(tmp_path_factory) -> World:
    """A run with all its verdicts, as another machine brings it back: no data and no exit.json."""
    world = finished_world(tmp_path_factory, "ended")
    run = world.root / "run"
    shutil.rmtree(run / "data")
    (run / "exit.json").unlink()
    return world


def say_stop(run: RunFolder, stage: str) -> None:
    verdict = read_verdicts(run)[stage]
    write_override(run, verdict, decided="stop", by="Ada", reason="it forgets too much")


@pytest.mark.parametrize("words", [("run",), ("train", "--stage", STAGES[0])], ids=["run", "stage"])
def test_what_all_verdicts_have_closed_is_told_and_not_prepared(ended, words):
    verb, *more = words
    done = json.loads(ended.finish(verb, "run", "--json", *more).stdout)
    assert done["already_complete"]
    assert (done["steps"], done["tokens_seen"]) == (2 * STEPS, 2 * STEPS * BATCH_TOKENS)
    told = {stage["name"]: stage["verdict"] for stage in done["stages"]}
    assert told == dict.fromkeys(STAGES[: 1 if more else 2], "pass")
    assert not (ended.root / "run" / "data").exists()


def test_a_stop_of_a_gate_is_told_on_any_machine_and_nothing_is_prepared(ended, monkeypatch):
    run = RunFolder(ended.root / "run")
    say_stop(run, STAGES[1])
    monkeypatch.setattr("torch.__version__", "1.0")
    told = ended.finish("run", "run", "--strict", code=GateStopError.exit_code).stderr
    assert f"the gate of {STAGES[1]} says stop: Ada decided so: it forgets too much" in told
    assert not run.data.exists()


def test_other_settings_are_refused_where_nothing_is_left_to_train(ended):
    ended.finish("run", "run", "--set", "training.learning_rate=0.5", code=30)


@pytest.mark.parametrize("decided", ["pass", "stop"])
def test_a_stage_of_epochs_that_has_ended_is_asked_for_by_the_same_command(tmp_path, decided):
    """Its epochs are counted by data that is not prepared here, so it keeps what they came to."""
    world = World.create(tmp_path)
    run, words = RunFolder(tmp_path / "run"), ("--stage", STAGES[0], "--num_epochs", "0.03")
    world.finish("train", "run", *words)
    if decided == "stop":
        say_stop(run, STAGES[0])
    shutil.rmtree(run.data)
    run.exit_record.unlink()
    code = GateStopError.exit_code if decided == "stop" else 0
    told = world.finish("train", "run", *words, code=code).stderr
    assert f"the gate of {STAGES[0]} says stop" in told or decided == "pass"
    assert "training.total_tokens" not in told
    assert not run.data.exists()


@pytest.mark.fault(22)
def test_other_tokens_of_the_stage_that_is_asked_for_are_refused_though_it_has_passed(ended):
    other = ("--stage", STAGES[0], "--set", "training.total_tokens=2048")
    told = ended.finish("train", "run", *other, code=30).stderr
    assert f"training.total_tokens: {STEPS * BATCH_TOKENS} -> 2048" in told


def test_the_settings_of_a_run_that_was_stopped_name_the_mirror_that_it_has_now(ended, tmp_path):
    run, mirror = RunFolder(ended.root / "run"), tmp_path / "new"
    say_stop(run, STAGES[1])
    ended.finish("run", "run", "--set", f"checkpoint.mirror={mirror}", code=20)
    for folder in (run, RunFolder(mirror / "run")):
        assert read_frozen_config(folder).optimization.checkpoint.mirror == str(mirror)


def test_verdicts_without_the_weights_that_they_were_given_on_are_no_end(ended):
    newest = ended.checkpoints("run")[-1] / "model.safetensors"
    newest.write_bytes(newest.read_bytes()[:-1])
    told = ended.finish("run", "run").stderr
    assert "falling back to the checkpoint before" in told
    assert "complete already" not in told


def test_verdicts_without_their_weights_are_trained_again_where_the_run_may_be(ended, monkeypatch):
    """Else its stage's end would be trained on the CPU of a machine whose card failed."""
    shutil.rmtree(ended.checkpoints("run")[-1])
    environment = ended.root / "run" / "environment.json"
    told = json.loads(environment.read_text())
    environment.write_text(json.dumps({**told, "torch": "1.0"}))
    assert "torch: 1.0 -> " in ended.finish("run", "run", "--strict", code=30).stderr
    environment.write_text(json.dumps({**told, "device_type": "cuda"}))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert "torch finds none here" in ended.finish("run", "run", code=11).stderr
    assert not (ended.root / "run" / "data").exists(), "hours may go into it"


def test_stages_one_by_one_go_on_where_another_machine_had_come_to(tmp_path_factory, tmp_path):
    """As `train_stage1.sh && train_stage2.sh` with a mirror whose rows are ahead of its weights."""
    world, mirror = finished_world(tmp_path_factory, "chain"), tmp_path / "mirror"
    run = RunFolder(world.root / "run")
    last, rows = world.checkpoints("run")[-1], deterministic_rows(run.root)
    trained = fingerprint(last)
    shutil.rmtree(last)
    newest = world.checkpoints("run")[-1]
    assert f"step-{STEPS:08d}" < newest.name
    Mirror(str(mirror), run, say=print).publish(newest, newest.name)
    shutil.rmtree(run.root)
    address = ("--set", f"checkpoint.mirror={mirror}")
    told = world.finish("train", "run", "--stage", STAGES[0], *address).stderr
    assert "is complete already" in told
    assert not run.data.exists()
    assert "going on from" in world.finish("train", "run", "--stage", STAGES[1], *address).stderr
    assert fingerprint(last) == trained
    assert deterministic_rows(run.root) == rows


def test_a_stage_that_has_passed_may_have_its_data_here_alone(ended):
    ended.finish("prepare", "run/data", "--stage", STAGES[0])
    told = ended.finish("train", "run", "--stage", STAGES[0]).stderr
    assert "is complete already" in told


def test_after_a_stop_no_other_budget_is_told_to_be_in_the_way(tmp_path):
    """As `train_stage1.sh --num_epochs 0.05`, and then the next script, or `run`."""
    world, run = World.create(tmp_path), RunFolder(tmp_path / "run")
    epochs = ("--num_epochs", "0.05")
    world.finish("train", "run", "--stage", STAGES[0], *epochs)
    say_stop(run, STAGES[0])
    told = world.finish("train", "run", "--stage", STAGES[1], *epochs, code=30).stderr
    assert "has not passed its gate" in told
    told = world.finish("run", "run", code=GateStopError.exit_code).stderr
    assert f"the gate of {STAGES[0]} says stop" in told
