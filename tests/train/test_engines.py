"""However the work is spread over processes, a run trains to the same losses and can be taken up."""

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from tests.train.world import World, deterministic_rows

SHARED = ("--set", "compute.zero1=true")


@pytest.fixture
def world(tmp_path) -> World:
    return World.create(tmp_path)


def losses(run: Path) -> list[float]:
    return [row["loss"] for row in deterministic_rows(run)]


def tensors(checkpoint: Path) -> dict[str, np.ndarray]:
    return {
        f"{part}:{name}": array
        for part in ("model", "optimizer")
        for name, array in load_file(checkpoint / f"{part}.safetensors").items()
    }


def apart(first: Path, second: Path) -> float:
    """Return the largest difference of any tensor, as a share of its largest number."""
    a, b = tensors(first), tensors(second)
    assert a.keys() == b.keys()
    worst = 0.0
    for name, array in a.items():
        scale = max(float(np.abs(array).max()), 1e-9)
        worst = max(worst, float(np.abs(array - b[name]).max()) / scale)
    return worst


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_ranks_that_share_the_optimizer_train_as_those_that_do_not(world, optimizer):
    more = ("--max_steps", "6", "--set", f"optimizer.name={optimizer}")
    world.launch("run", "whole", *more)
    told = world.launch("run", "shared", *more, *SHARED, "--strict").stderr
    assert "ZeRO-1 over 2" in told
    whole, shared = (world.root / name for name in ("whole", "shared"))
    assert losses(shared) == pytest.approx(losses(whole), rel=1e-6)
    assert apart(world.checkpoints("shared")[-1], world.checkpoints("whole")[-1]) < 1e-4


def test_what_ranks_shared_one_takes_up_and_hands_back(world):
    """2 processes, then 1, then 2: the steps of one that did them all."""
    world.finish("run", "alone", "--max_steps", "7")
    world.launch("run", "moved", "--max_steps", "3", *SHARED)
    world.finish("run", "moved", "--max_steps", "5", *SHARED)
    world.launch("run", "moved", "--max_steps", "7", *SHARED)
    alone, moved = (world.root / name for name in ("alone", "moved"))
    assert losses(moved) == pytest.approx(losses(alone), rel=1e-5)
    assert apart(world.checkpoints("moved")[-1], world.checkpoints("alone")[-1]) < 1e-3


def test_one_process_has_nobody_to_share_with_which_strict_refuses(world):
    assert "ZeRO-1" in world.finish("run", "run", *SHARED, "--max_steps", "1").stderr
    refused = world.finish("run", "strict", *SHARED, "--max_steps", "1", "--strict", code=30)
    assert "asked for and not active: ZeRO-1 (one process" in refused.stderr
