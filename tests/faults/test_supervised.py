"""Failures that come again: memory that is not there, and a step that always ends the run."""

import os

import pytest
import torch
import torch.distributed as dist

from tests.faults.harness import run_with
from tests.supervise.test_supervisor import supervised
from yxanul.failpoints import VARIABLE
from yxanul.runfolder.checkpoints import verify_checkpoint
from yxanul.train.updates import guarded


@pytest.mark.fault(32)
def test_memory_that_is_not_there_is_11_with_advice_and_the_run_goes_on(world):
    told = run_with(world, "step.updated=memory@5", code=11).stderr
    assert "out of memory" in told
    assert "compute.micro_batch_tokens" in told
    assert world.exit_record("run")["code"] == 11
    for path in world.checkpoints("run"):
        verify_checkpoint(path)
    world.finish("run", "run")


@pytest.mark.parametrize(
    "error",
    [
        torch.AcceleratorError(
            "CUDA error: uncorrectable ECC error encountered\nCUDA kernel errors"
        ),
        dist.DistBackendError("NCCL error in: x.cpp:1, unhandled cuda error"),
    ],
)
def test_a_card_that_fails_is_11_and_may_be_started_again(world, monkeypatch, error):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr(guarded, "measure_step", fail)
    told = world.finish("run", "run", code=11).stderr
    assert f"a card failed, or the exchange between cards ({str(error).splitlines()[0]})" in told
    assert world.exit_record("run")["code"] == 11


@pytest.mark.slow
@pytest.mark.fault(41)
@pytest.mark.fault(32)
def test_a_failure_at_the_same_step_is_tried_three_times(world, monkeypatch):
    # Every start ends in its second step after the last checkpoint.
    monkeypatch.setitem(os.environ, VARIABLE, "step.updated=memory@2-")
    process = supervised(*world.command("run", "run", "--set", "checkpoint.every_steps=50"))
    _, told = process.communicate(timeout=180)
    assert process.returncode == 11, told
    assert told.count("started again in") == 2
    assert "it failed 3 times" in told
