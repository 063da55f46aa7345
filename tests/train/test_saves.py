"""When a run saves without being asked to: by steps, by the clock, and for good."""

from tests.train.world import BATCH_TOKENS, STEPS, World
from yxanul.runfolder.checkpoints import read_manifest

BY_CLOCK = ("--set", "checkpoint.every_steps=null", "--set", "checkpoint.keep=99")


def saved(world: World, *more: str) -> dict[int, bool]:
    """Return the steps of a run's checkpoints, and which of them stay for good."""
    world.finish("run", "run", *more)
    found = [read_manifest(path)[0] for path in world.checkpoints("run")]
    return {one.step: one.permanent for one in found}


def test_a_run_saves_when_its_time_is_over(tmp_path):
    """Each time anew: here it is over at every step."""
    found = saved(World.create(tmp_path), *BY_CLOCK, "--set", "checkpoint.every_s=1e-9")
    assert list(found) == list(range(1, 2 * STEPS + 1))


def test_a_run_whose_time_is_not_over_saves_at_the_ends_of_its_stages(tmp_path):
    found = saved(World.create(tmp_path), *BY_CLOCK, "--set", "checkpoint.every_s=3600")
    assert found == {STEPS: True, 2 * STEPS: True}


def test_a_checkpoint_for_good_is_never_pushed_out(tmp_path):
    """After every so many tokens, beside the last of a stage; all others go but the newest two."""
    for_good = f"checkpoint.permanent_every_tokens={3 * BATCH_TOKENS}"
    found = saved(World.create(tmp_path), "--set", for_good, "--set", "checkpoint.every_steps=1")
    assert found == dict.fromkeys((3, 6, 8, 9, 12, 15, 16), True)
