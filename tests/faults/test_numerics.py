"""Losses and gradients that cannot be trusted: skipped, gone back from, or the end of the run."""

import json
import math
import random

import numpy as np
import pytest
from safetensors.numpy import load_file

from tests.faults.harness import KILLED, assert_ends_like, run_with
from tests.train.world import World
from yxanul.config.schema import NumericsConfig
from yxanul.runfolder.checkpoints import read_manifest
from yxanul.runfolder.layout import RunFolder
from yxanul.train.running import stage_data
from yxanul.train.safety.vigil import Vigil
from yxanul.watch.snapshot import Watch

NEAR = ("--set", "numerics.back_steps=1", "--set", "numerics.skip_steps=2")


def rows(world: World, name: str = "metrics.jsonl") -> list[dict]:
    return [json.loads(line) for line in (world.root / "run" / name).read_text().splitlines()]


def tensors(world: World) -> dict[str, np.ndarray]:
    newest = world.checkpoints("run")[-1]
    return {
        key: array
        for part in ("model", "optimizer")
        for key, array in load_file(newest / f"{part}.safetensors").items()
    }


@pytest.mark.fault(27)
def test_a_step_that_is_not_finite_moves_nothing_and_is_counted(world):
    # The fifth step, and its second computation.
    told = run_with(world, "step.scale=nan@5-6", code=0).stderr
    assert told.count("no weight was moved") == 1
    skipped = [row for row in rows(world) if "skipped" in row]
    assert [(row["step"], row["loss"]) for row in skipped] == [(5, None)]
    assert all(np.isfinite(array).all() for array in tensors(world).values())
    # The other fifteen steps did their updates.
    assert int(tensors(world)["updates"]) == 15


@pytest.mark.slow
@pytest.mark.fault(27)
def test_a_step_that_is_finite_the_second_time_is_told_as_hardware_and_done(world, unbroken):
    told = run_with(world, "step.scale=nan@5", code=0).stderr
    assert "this machine's arithmetic is in doubt" in told
    assert_ends_like(world, unbroken)
    seen = Watch(RunFolder(world.root / "run")).look()
    assert [it.step for it in seen.incidents if "arithmetic is in doubt" in it.what] == [5]


@pytest.mark.slow
@pytest.mark.fault(27)
def test_a_skipped_step_is_skipped_again_after_a_kill(world, tmp_path):
    other = World.create(tmp_path / "other")
    run_with(other, "step.scale=nan@5-6", code=0)
    # Killed after the checkpoint of step 6, which knows what was skipped.
    run_with(world, "step.scale=nan@5-6,checkpoint.renamed=kill@2", code=KILLED)
    world.finish("run", "run")
    assert_ends_like(world, other)


@pytest.mark.fault(28)
@pytest.mark.slow
def test_three_in_a_row_go_back_and_leave_that_text_out(world):
    # Steps 13 to 15, each twice; the attempt that follows is left alone.
    told = run_with(world, "step.scale=nan@13-18", *NEAR, code=0).stderr
    assert "3 steps in a row were skipped: attempt 1 goes on from step 11, over other text" in told
    lineage = rows(world, "lineage.jsonl")
    assert [row["step"] for row in lineage if row["event"] == "diverged"] == [15]
    begun = [row for row in lineage if row["event"] == "attempt"][-1]
    assert (begun["attempt"], begun["step"]) == (1, 11)
    # From step 11 until past step 15, by which the trouble had been read.
    assert begun["changes"]["segments"][-1] == {
        "first": 3,
        "end": 8,
        "attempt": 1,
        "left_out": 4,
        "keeps_line": True,
    }
    assert rows(world)[-1]["step"] == 16


@pytest.mark.fault(28)
def test_going_back_out_of_an_extension_leaves_out_what_was_read_there(world, monkeypatch):
    found = {}

    def order(session, plan, *, segments):
        found[segments[-1].attempt] = read = before(session, plan, segments=segments)
        return read

    before = stage_data._order
    monkeypatch.setattr(stage_data, "_order", order)
    longer = ("--set", "gate.min_improvement=0.9", "--set", "gate.extension.fraction=0.25")
    alarm = ("--set", "numerics.skipped_in_a_row=1", *NEAR)
    # The first step of the extension.
    run_with(world, "step.scale=nan@9-10", *longer, *alarm, code=20)
    begun = [row for row in rows(world, "lineage.jsonl") if row["event"] == "attempt"]
    # Those that were left stay, and with them the ends of the cycles.
    assert begun[2]["changes"]["segments"] == [
        {"first": 0, "end": 8, "attempt": 0, "left_out": 0, "keeps_line": True},
        {"first": 8, "end": 10, "attempt": 1, "left_out": 0, "keeps_line": True},
        {"first": 6, "end": 10, "attempt": 2, "left_out": 3, "keeps_line": True},
    ]
    per_step = len(found[0]) // 8
    left_out = [found[0].part(6 * per_step, 8 * per_step), found[1].part(0, per_step)]
    for part in left_out:
        assert not np.isin(part.chunk_index, found[2].chunk_index).any()
    verdict = next(row for row in rows(world, "gates.jsonl") if row.get("attempt") == 2)
    assert (verdict["id"], verdict["result"]) == ("G0", "pass")  # its tokens are those of a ledger


@pytest.mark.fault(28)
def test_steps_that_were_skipped_before_do_not_end_a_run_that_has_gone_back(world, monkeypatch):
    """Two of a thousand may be skipped: the first two are, the seventh, and once more after it."""
    is_bad = iter((1, 1, 1, 1, 0, 0, 0, 0, 1, 1, 1, 1))  # a skipped one is computed twice
    monkeypatch.setattr(
        "yxanul.train.updates.step.planted",
        lambda _, it: it * (math.nan if next(is_bad, 0) else 1.0),
    )
    share = ("--set", "numerics.skipped_share=0.002", "--max_steps", "7")
    told = world.finish("run", "run", *share, *NEAR).stderr
    assert "3 of the last 1,000 steps were skipped: attempt 1 goes on from step 3" in told
    assert told.count("no weight was moved") == 4
    # As after a kill, it is not written after step 6 of the attempt that was left.
    first = read_manifest(world.root / "run" / "checkpoints" / "step-00000006-a1")[0]
    assert first.parent == "step-00000003-a0"


@pytest.mark.slow
@pytest.mark.fault(28)
def test_the_same_again_soon_ends_the_run_with_33(world):
    told = run_with(world, "step.scale=nan@13-", *NEAR, code=33).stderr
    assert "again after going back from step 15" in told
    assert "--init_from" in told
    assert world.exit_record("run")["code"] == 33


@pytest.mark.slow
@pytest.mark.fault(28)
def test_a_kill_while_going_back_leads_to_the_same_end(world, tmp_path):
    other = World.create(tmp_path / "other")
    run_with(other, "step.scale=nan@13-18", *NEAR, code=0)
    # The divergence is written down as the fifth row of the lineage; the attempt is not.
    run_with(world, "step.scale=nan@13-18,rows.lineage=kill@5", *NEAR, code=-9)
    run_with(world, "step.scale=nan@1-2", *NEAR, code=0)
    wanted, found = (w.checkpoints("run")[-1] for w in (other, world))
    assert found.name == wanted.name
    assert (found / "model.safetensors").read_bytes() == (wanted / "model.safetensors").read_bytes()


@pytest.mark.fault(29)
@pytest.mark.parametrize("rise", [2.0, 10.0])
def test_a_spike_is_suspicious_and_the_steps_after_it_are_not(rise):
    vigil, draw = Vigil(NumericsConfig()), random.Random(0)
    for step in range(200):
        vigil.record(step, draw.gauss(3.0, 0.05), was_skipped=False)
    assert vigil.suspicion(3.0 * rise, 1.0) is not None
    vigil.record(200, 3.0 * rise, was_skipped=True)
    assert vigil.suspicion(3.1, 1.0) is None
    assert vigil.divergence() is None


@pytest.mark.slow
@pytest.mark.fault(29)
def test_a_planted_spike_is_skipped_in_a_run(world):
    # The window is full enough after 32 steps of one length, which lasts for 48.
    more = ("--set", "training.total_tokens=24576", "--max_steps", "46")
    told = run_with(world, "step.scale=tenfold@44-45", *more, code=0).stderr
    assert told.count("no weight was moved") == 1
    assert "was usual" in told


# What a loss does in a training that goes well: its noise, its fall, and its heavy tails.
NOISES = {
    "gauss": lambda draw, _: draw.gauss(3.0, 0.1),
    "falling": lambda draw, step: 3.0 + 7.0 * math.exp(-step / 300) + draw.gauss(0, 0.1),
    "log-normal": lambda draw, _: 3.0 * math.exp(draw.gauss(0, 0.08)),
    "laplace": lambda draw, _: 3.0 + draw.choice((-1, 1)) * draw.expovariate(1 / 0.05),
    "mixture": lambda draw, _: draw.gauss(*draw.choice([(2.6, 0.1), (3.0, 0.1), (3.4, 0.1)])),
}


@pytest.mark.fault(29)
@pytest.mark.parametrize("noise", NOISES)
def test_clean_noise_raises_no_alarm_in_ten_thousand_steps(noise):
    vigil, draw = Vigil(NumericsConfig()), random.Random(1)
    alarms = 0
    for step in range(10_000):
        loss = NOISES[noise](draw, step)
        alarms += vigil.suspicion(loss, 1.0) is not None
        vigil.record(step, loss, was_skipped=False)
    assert alarms == 0


@pytest.mark.fault(27)
def test_what_is_not_finite_never_enters_the_window():
    vigil = Vigil(NumericsConfig())
    for step in range(100):
        loss = math.nan if step % 10 == 0 else 3.0 + step % 7 / 100
        assert (vigil.suspicion(loss, 1.0) is not None) == math.isnan(loss)
        vigil.record(step, loss, was_skipped=math.isnan(loss))
    assert all(math.isfinite(loss) for loss in vigil.losses)
    again = Vigil(NumericsConfig())
    again.restore(json.loads(json.dumps(vigil.as_state())))
    assert again == vigil


@pytest.mark.slow
@pytest.mark.fault(31)
def test_a_huge_gradient_is_skipped_or_clipped(world):
    # 1e30 in fp32 overflows the norm: not finite. What is merely large is clipped to norm 1.
    told = run_with(world, "step.scale=huge@5-6", code=0).stderr
    assert told.count("no weight was moved") == 1
    assert all(np.isfinite(array).all() for array in tensors(world).values())
