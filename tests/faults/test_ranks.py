"""Several processes: one that dies, one that hangs, and ones that differ."""

import os
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.needs import PROC
from tests.supervise.test_supervisor import PAUSE, standing_still
from tests.train.world import STAGES, World, finished_world, last_step
from yxanul.cores import usable_cores
from yxanul.runfolder.layout import RunFolder
from yxanul.runfolder.verdicts import read_verdicts, write_override

pytestmark = pytest.mark.slow
LAUNCH = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node"]


def start(words: list[str], *, ranks: int = 2, **env: str) -> subprocess.Popen:
    return subprocess.Popen(
        [*LAUNCH, str(ranks), *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": "src:.", **env},
    )


def words_of(process: subprocess.Popen, *, timeout: float) -> str:
    """Return what a process wrote to stderr until its end; one that does not end is ended."""
    try:
        return process.communicate(timeout=timeout)[1]
    finally:
        process.kill()


def play(world: World, program: str, *more: str, **env: str) -> tuple[int, str]:
    """Run two ranks of a program of this folder to their end; return the code and the words."""
    words = world.command("run", "run", *more)[3:]
    process = start([str(Path(__file__).with_name(program)), *words], **env)
    told = words_of(process, timeout=180)
    return process.returncode, told


def strike(world: World, number: int, *more: str) -> tuple[int, str]:
    """Start two ranks, send rank 1 a signal in the third step; return the code and the words.

    It stands still there, so that rank 0 is found waiting for it, however fast the steps are.
    """
    launcher = start(world.command("run", "run", *more)[1:], **PAUSE)
    ranks = standing_still(launcher, count=2)
    os.kill(ranks[0], signal.SIGCONT)
    os.kill(ranks[1], number)
    told = words_of(launcher, timeout=180)
    return launcher.returncode, told


@PROC
@pytest.mark.fault(24)
def test_who_loses_a_rank_leaves_with_11(world):
    code, told = strike(world, signal.SIGKILL)
    assert code != 0
    record = world.exit_record("run")
    assert record["code"] == 11, told
    assert "lost another one" in record["reason"]
    world.finish("run", "run")


@PROC
@pytest.mark.fault(25)
def test_who_waits_for_a_rank_that_hangs_tells_where_and_leaves_with_11(world):
    code, told = strike(world, signal.SIGSTOP, "--set", "watch.hang_s=5")
    assert code != 0
    record = world.exit_record("run")
    assert record["code"] == 11, told
    assert "did not end within" in record["reason"]
    stacks = (world.root / "run" / "stacks-rank0.txt").read_text()
    waits = ("all_reduce", "_engine_run_backward")  # where DDP waits is in no frame of Python's
    assert any(place in stacks for place in waits), stacks
    assert "watchdog" in stacks
    world.finish("run", "run")


@pytest.mark.fault(25)
def test_who_waits_for_a_part_of_a_score_that_never_comes_leaves_with_11(world):
    code, told = play(world, "hanging_rank.py", "--set", "watch.hang_s=3", HANGS="score")
    assert code != 0
    record = world.exit_record("run")
    assert record["code"] == 11, told
    assert "another rank's part of a score did not end within" in record["reason"]
    assert "all_gather_object" in (world.root / "run" / "stacks-rank0.txt").read_text()
    world.finish("run", "run")


@pytest.mark.fault(25)
def test_who_waits_for_a_comparison_of_weights_that_never_comes_leaves_with_11(world):
    """Nothing else of that step hangs: without a look at it all would wait for two hours."""
    switches = ("watch.hang_s=3", "watch.weights_every_steps=2")
    more = [word for switch in switches for word in ("--set", switch)]
    env = {"HANGS": "weights", "TORCH_ELASTIC_SHUTDOWN_TIMEOUT": "5"}
    code, told = play(world, "hanging_rank.py", *more, **env)
    assert code != 0
    record = world.exit_record("run")
    assert record["code"] == 11, told
    assert "an answer of the other ranks did not end within" in record["reason"]
    assert "refuse_other_weights" in (world.root / "run" / "stacks-rank0.txt").read_text()


def test_ranks_wait_for_the_main_ones_disk_as_long_as_a_checkpoint_may_take(world):
    code, told = play(world, "slow_disk_rank.py", "--set", "watch.hang_s=3", "--max_steps", "4")
    assert code == 0, told
    assert not list((world.root / "run").glob("stacks-*"))


def test_ranks_are_told_what_a_gate_says_where_they_do_not_see_its_file(world):
    code, told = play(world, "far_rank.py")
    assert code == 0, told


@pytest.mark.fault(7)
def test_one_rank_that_is_asked_to_stop_in_its_part_of_a_score_stops_all_of_them(world):
    _, told = play(world, "stopping_rank.py")
    record = world.exit_record("run")
    assert record["code"] == 10, told
    assert "stopped by another rank at step 0, and saved" in record["reason"]
    world.finish("run", "run")


def test_an_error_of_one_rank_ends_the_run_though_the_group_would_wait_for_ever(world):
    code, told = play(world, "stubborn_ranks.py", FAULT="one")
    assert code != 0
    assert "on this rank alone" in told
    record = world.exit_record("run")
    assert record["code"] == 11, told
    assert "lost another one" in record["reason"]


def test_an_error_of_all_ranks_leaves_the_main_one_time_for_its_last_words(world):
    world.finish("run", "run", "--max_steps", "2")
    report = world.root / "run" / "report.html"
    report.unlink()
    code, told = play(world, "stubborn_ranks.py", "--set", "budget.hours=1e-9", FAULT="all")
    assert code != 0
    assert world.exit_record("run")["code"] == 20, told
    assert report.exists()


@pytest.mark.parametrize("decided", ["pass", "stop"])
def test_all_ranks_leave_what_the_main_one_finds_ended_when_it_has_copied_it(
    tmp_path_factory, decided
):
    world = finished_world(tmp_path_factory, "ended-ranks")
    run, mirror = RunFolder(world.root / "run"), world.root / "mirror"
    verdict = read_verdicts(run)[STAGES[1]]
    write_override(run, verdict, decided=decided, by="Ada", reason="a test")
    shutil.rmtree(run.data)
    run.exit_record.unlink()
    code, told = play(world, "ended_rank.py", "--set", f"checkpoint.mirror={mirror}")
    assert (code == 0) == (decided == "pass"), told
    assert world.exit_record("run")["code"] == (0 if decided == "pass" else 20), told
    assert not run.data.exists()
    assert (mirror / "checkpoints" / world.checkpoints("run")[-1].name / "manifest.json").exists()


@pytest.mark.fault(26)
def test_ranks_of_different_settings_are_refused(world):
    command = world.command("run", "run", "--set")
    line = f"exec {shlex.join(command)} seed=$RANK"
    process = start(["--no-python", "bash", "-c", line])
    told = words_of(process, timeout=120)
    assert process.returncode != 0
    assert (
        "do not agree on the settings: rank 1 differs from rank 0 (seed: 0 on rank 0, 1 on rank 1)"
    ) in told
    assert world.exit_record("run")["code"] == 30
    # On cards one of them might try what the others do not, and wait for them for ever.
    assert not (world.root / "run" / "data").exists()
    assert not (world.root / "run" / "config.yaml").exists()


@pytest.mark.fault(26)
@pytest.mark.parametrize("what", ["the program", "the data", "where the run stands"])
def test_ranks_that_have_something_else_are_refused(world, what):
    """As where machines have other checkouts, or prepared data of another day."""
    data = world.root / "run" / "data"
    code, told = play(world, "other_rank.py", OTHER=what)
    assert code != 0
    record = world.exit_record("run")
    assert record["code"] == 30, told
    assert f"do not agree on {what}: rank 1 differs from rank 0" in record["reason"]
    assert data.exists() == (what != "the program"), "nothing is prepared that is not needed"
    assert last_step(world.root / "run" / "metrics.jsonl") == 0


@pytest.mark.fault(26)
def test_ranks_on_unlike_devices_train_only_where_they_share_the_optimizers_work(world):
    code, told = play(world, "unlike_rank.py")
    assert code != 0
    record = world.exit_record("run")
    assert record["code"] == 30, told
    assert "different kinds (card (0) on rank 0, card (1) on rank 1)" in record["reason"]
    assert "set compute.zero1=true" in record["reason"]
    assert not (world.root / "run" / "data").exists()
    code, told = play(world, "unlike_rank.py", "--set", "compute.zero1=true")
    assert code == 0, told
    code, told = play(world, "unlike_rank.py")  # what is complete trains nothing
    assert code == 0, told


@pytest.mark.skipif(usable_cores() == 1, reason="every process has one core here")
def test_ranks_on_machines_of_other_cores_train_together_each_with_its_own(world):
    """Rank 0 takes all cores, and rank 1 half of them, as on a machine that has fewer."""
    words = world.command("run", "run", "--set", "compute.threads=null", "--max_steps")[3:]
    command = [sys.executable, str(Path(__file__).with_name("threads_rank.py")), *words]
    line = f"LOCAL_WORLD_SIZE=$((RANK + 1)) exec {shlex.join(command)}"
    for steps in (2, 3):  # and on a resume
        threads = world.root / f"threads-{steps}"
        threads.mkdir()
        process = start(["--no-python", "bash", "-c", f"{line} {steps}"], THREADS=str(threads))
        told = words_of(process, timeout=120)
        assert process.returncode == 0, told
        found = [int((threads / rank).read_text()) for rank in ("0", "1")]
        assert found == [usable_cores(), usable_cores() // 2]
    frozen = (world.root / "run" / "config.yaml").read_text()
    assert f"threads: {usable_cores()}\n" in frozen


@pytest.mark.parametrize(
    ("ranks", "more", "rows"),
    [(2, (), "1 row of 64 tokens"), (3, ("--max_steps", "2"), "2 rows of 32 tokens")],
    ids=["in a later phase", "in the first, of a few steps"],
)
def test_a_step_that_the_ranks_cannot_share_is_refused_before_data(world, ranks, more, rows):
    words = world.command("run", "run", "--set", "training.batch_tokens=64", *more)[1:]
    process = start(words, ranks=ranks)
    told = words_of(process, timeout=120)
    assert process.returncode != 0
    reason = world.exit_record("run")["reason"]
    assert f"{STAGES[0]}: {ranks} processes cannot share the {rows}" in reason, told
    assert world.exit_record("run")["code"] == 30
    assert not (world.root / "run" / "data").exists()


def test_steps_before_a_phase_that_the_ranks_cannot_share_are_done_where_no_more_are_asked(world):
    world.launch("run", "run", "--set", "training.batch_tokens=64", "--max_steps", "2")
    assert last_step(world.root / "run" / "metrics.jsonl") == 2


def test_what_one_ranks_machine_cannot_do_is_refused_by_all_before_data(world):
    code, told = play(world, "refusing_rank.py")
    assert code != 0
    record = world.exit_record("run")
    assert record["code"] == 30, told
    assert record["reason"] == "rank 1: compute.precision=bf16 needs another card"
    assert not (world.root / "run" / "data").exists()


@pytest.mark.fault(30)
def test_a_bit_that_flips_in_one_ranks_weights_is_found_and_the_rank_named(world):
    assert_flip_is_found(world, "watch.weights_every_steps=2")


@pytest.mark.slow
@pytest.mark.fault(30)
def test_weights_with_a_flipped_bit_are_not_saved(world):
    assert_flip_is_found(world, "watch.weights_every_steps=100")
    assert [path.name for path in world.checkpoints("run")][-1] == "step-00000003-a0"


def assert_flip_is_found(world: World, setting: str) -> None:
    code, told = play(world, "flipping_rank.py", "--set", setting)
    assert code != 0
    record = world.exit_record("run")
    assert record["code"] == 31, told
    assert "after step 6 the weights are not the same" in record["reason"]
    assert "rank 1 differs" in record["reason"]
    assert "embed_tokens.weight" in record["reason"]
