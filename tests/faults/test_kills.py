"""SIGKILL at the worst moments: the run goes on, and ends bit for bit like an unbroken one."""

import random
import shutil
import time

import pytest

from tests.faults.harness import KILLED, assert_ends_like, names, run_with
from tests.train.world import World
from yxanul.runfolder.checkpoints import verify_checkpoint


@pytest.fixture(scope="module")
def took(tmp_path_factory) -> float:
    """Return the seconds that an unbroken run takes on this machine as it is now."""
    world, begin = World.create(tmp_path_factory.mktemp("took")), time.monotonic()
    process = world.start("run", "run")
    _, told = process.communicate(timeout=120)
    assert process.returncode == 0, told
    return time.monotonic() - begin


@pytest.mark.slow
@pytest.mark.fault(1)
@pytest.mark.parametrize("seed", range(8))
def test_a_kill_at_a_random_moment_changes_nothing(world, unbroken, took, seed):
    """Twice, of one run or of two: what is killed late may have been done before."""
    draw, kills = random.Random(seed), 0
    while kills < 2:
        process = world.start("run", "run")
        time.sleep(draw.uniform(0.0, took))
        process.kill()
        _, told = process.communicate(timeout=60)
        assert process.returncode in (0, KILLED), told
        kills += process.returncode == KILLED
        if process.returncode == 0:
            assert_ends_like(world, unbroken)
            shutil.rmtree(world.root / "run")
    world.finish("run", "run")
    assert_ends_like(world, unbroken)


@pytest.mark.parametrize(
    "place",
    [
        # Not all in the fast suite: each takes two starts of the program.
        pytest.param("checkpoint.writing=kill@2", marks=[pytest.mark.fault(2), pytest.mark.slow]),
        pytest.param("checkpoint.renamed=kill@2", marks=[pytest.mark.fault(3), pytest.mark.slow]),
        pytest.param("step.updated=kill@5", marks=[pytest.mark.fault(4), pytest.mark.slow]),
        pytest.param("rows.metrics=kill@6", marks=[pytest.mark.fault(4), pytest.mark.slow]),
        pytest.param("checkpoint.purging=kill@1", marks=[pytest.mark.fault(5), pytest.mark.slow]),
        pytest.param("checkpoint.thread=kill@2", marks=[pytest.mark.fault(6), pytest.mark.slow]),
        pytest.param("checkpoint.written=kill@3", marks=[pytest.mark.fault(6), pytest.mark.slow]),
    ],
)
def test_a_kill_at_a_planted_place_changes_nothing(world, unbroken, place):
    run_with(world, place, code=KILLED)
    run = world.root / "run"
    # What was renamed into place verifies, whatever else lies about.
    kept = world.checkpoints("run")
    for path in kept:
        verify_checkpoint(path)
    if place.startswith("checkpoint.purging"):
        assert len(kept) >= 2
    world.finish("run", "run")
    assert not [name for name in names(run / "checkpoints") if name.startswith(".tmp")]
    assert_ends_like(world, unbroken)


@pytest.mark.slow
@pytest.mark.fault(3)
def test_the_hint_decides_nothing(unbroken, tmp_path):
    run = shutil.copytree(unbroken.root / "run", unbroken.root / "hint")
    latest = run / "checkpoints" / "latest"
    assert latest.read_text().strip() == unbroken.checkpoints("run")[-1].name
    latest.write_text("step-99999999-a9\n")
    (run / "exit.json").unlink()
    unbroken.finish("run", "hint")
    assert_ends_like(unbroken, unbroken, out="hint")
