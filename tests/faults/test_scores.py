"""Scores that hang, and a wish to stop in the middle of one."""

import pytest

from tests.faults.harness import assert_ends_like, run_with
from tests.train.test_gate_acts import assert_same_end
from tests.train.test_skills import words, write_bench
from tests.train.world import STAGES, World


@pytest.mark.slow
@pytest.mark.fault(39)
def test_a_score_that_hangs_is_ended_with_11_and_taken_by_the_next_start(world, unbroken):
    # The fourth batch that is read for a score is of the first stage's end.
    told = run_with(world, "score.batch=wait@4", "--set", "watch.hang_s=2", code=11).stderr
    record = world.exit_record("run")
    assert record["code"] == 11
    assert "at step 8" in record["reason"], told
    assert "did not end within" in record["reason"]
    assert "failpoint" in (world.root / "run" / "stacks-rank0.txt").read_text()
    world.finish("run", "run")
    assert_ends_like(world, unbroken)


@pytest.fixture(scope="module")
def skilled(tmp_path_factory) -> World:
    """Return a world in which a run with skills has gone from its beginning to its end."""
    world = World.create(tmp_path_factory.mktemp("skilled"))
    world.finish("run", "run", *words(write_bench(world.root / "bench")))
    return world


# Batches that are read for a score, counted from the run's beginning: both are of triviaqa.
@pytest.mark.fault(7)
@pytest.mark.parametrize(("batch", "step"), [(6, 0), (60, 8)])
def test_sigterm_in_the_middle_of_a_skill_leaves_with_10_and_it_is_taken_anew(
    world, skilled, batch, step
):
    bench = write_bench(world.root / "bench")
    run_with(world, f"score.batch=stop@{batch}", *words(bench), code=10)
    assert f"at step {step}, and saved" in world.exit_record("run")["reason"]
    scores = world.root / "run" / "scores"
    assert len(list(scores.glob(f"step-{step:08d}-*.json"))) == len(STAGES)
    assert not list(scores.glob(f"skills/step-{step:08d}-*.json"))
    world.finish("run", "run", *words(bench))
    assert_same_end(world, "run", skilled)
