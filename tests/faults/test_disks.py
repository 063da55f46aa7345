"""Disks that are full, fail, or may not be written."""

import os

import pytest

from tests.faults.harness import assert_ends_like, names, run_with
from tests.train.world import STEPS, last_step
from yxanul.runfolder.checkpoints import verify_checkpoint


@pytest.mark.fault(11)
@pytest.mark.slow
def test_a_checkpoint_that_a_full_disk_refuses_is_missed_and_training_goes_on(world, unbroken):
    told = run_with(world, "checkpoint.writing=full@2", code=0).stderr
    assert "checkpoint missed (1 in a row, 3 end the run): the disk is full" in told
    assert_ends_like(world, unbroken)


@pytest.mark.slow
@pytest.mark.fault(11)
def test_three_missed_checkpoints_end_the_run_and_harm_none(world, unbroken):
    every_step = ("--set", "checkpoint.every_steps=1")
    told = run_with(world, "checkpoint.writing=full@3-", *every_step, code=32).stderr
    assert "checkpoint missed (2 in a row" in told
    assert world.exit_record("run")["code"] == 32
    for path in world.checkpoints("run"):
        verify_checkpoint(path)
    assert not [n for n in names(world.root / "run" / "checkpoints") if n.startswith(".tmp")]
    world.finish("run", "run")
    assert_ends_like(world, unbroken)


@pytest.mark.slow
@pytest.mark.fault(12)
def test_rows_that_a_full_disk_refuses_cost_rows_and_one_warning(world, unbroken):
    told = run_with(world, "rows.metrics=full@4-9", code=0).stderr
    assert told.count("rows are missing from here on") == 1
    assert last_step(world.root / "run" / "metrics.jsonl") == 2 * STEPS
    wanted, found = (w.checkpoints("run")[-1] for w in (unbroken, world))
    for name in ("model.safetensors", "optimizer.safetensors", "state.json"):
        assert (found / name).read_bytes() == (wanted / name).read_bytes()


@pytest.mark.slow
@pytest.mark.fault(13)
@pytest.mark.parametrize("fault", ["broken", "denied"])
def test_a_disk_that_failed_for_a_moment_is_tried_again(world, unbroken, fault):
    run_with(world, f"checkpoint.writing={fault}@2", code=0)
    assert_ends_like(world, unbroken)


@pytest.mark.slow
@pytest.mark.fault(13)
@pytest.mark.parametrize(
    ("fault", "what", "why"),
    [
        ("broken", "the disk failed at", "Input/output error"),
        ("denied", "may not be written any more", "Permission denied"),
    ],
)
def test_a_disk_that_keeps_failing_ends_the_run_with_11(world, unbroken, fault, what, why):
    told = run_with(world, f"checkpoint.writing={fault}@2-", code=11).stderr
    assert what in told
    assert why in told
    assert world.exit_record("run")["code"] == 11
    world.finish("run", "run")
    assert_ends_like(world, unbroken)


@pytest.mark.fault(13)
def test_a_folder_that_may_not_be_written_is_refused_before_a_run_begins(world, monkeypatch):
    """For root every folder may be written, so that it may not has to be planted."""
    checkpoints = world.root / "run" / "checkpoints"
    monkeypatch.setattr(os, "access", lambda path, _: path != checkpoints)
    told = world.finish("run", "run", code=30).stderr
    assert f"{checkpoints} may not be written by this user" in told
