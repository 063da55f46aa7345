"""A gate's verdict is acted on: a stage that forgets is begun again, one that learns is lengthened.

Kills at the gate and just after its verdict lead to the same end.
"""

import json
import math
import shutil
from pathlib import Path

import pytest

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
from yxanul.curriculum.stages import plan_stages
from yxanul.failpoints import VARIABLE
from yxanul.report.charts.curves import bpb_chart
from yxanul.report.model_card import write_card
from yxanul.report.reading.gather import gather
from yxanul.report.sections.forgetting import forgetting_matrix
from yxanul.report.sections.summary import summary
from yxanul.report.sections.transfer import transfer
from yxanul.runfolder.checkpoints import list_checkpoints, read_manifest
from yxanul.runfolder.layout import RunFolder
from yxanul.runfolder.lineage import SET_ASIDE, SETTINGS, AttemptStart, begin_attempt, events
from yxanul.runfolder.scores import scores_at
from yxanul.runfolder.spending import read_payments
from yxanul.watch.held_out import HeldOutScores
from yxanul.watch.pace import Pace

LONG = 48  # steps of the first stage, until it knows something that can be forgotten
FORGETFUL = {
    "stage1_tales.training.total_tokens": LONG * BATCH_TOKENS,
    "stage1_tales.training.embedding_learning_rate": 0.1,
    "stage2_sums.data.replay_share": 0.0,
    "stage2_sums.training.learning_rate": 0.05,
    "stage2_sums.training.embedding_learning_rate": 0.2,
    "stage2_sums.gate.rollback.min_replay_share": 0.5,
    "stage2_sums.gate.rollback.rate_factor": 0.2,
}
UNREACHABLE = {
    "stage1_tales.gate.min_improvement": 0.9,
    "stage1_tales.gate.extension.fraction": 0.25,
}


UNSTABLE = {
    "stage1_tales.training.learning_rate": 3.0,
    "stage1_tales.training.embedding_learning_rate": 30.0,
    "stage1_tales.training.total_tokens": 20 * BATCH_TOKENS,
    "stage1_tales.gate.rollback.rate_factor": 0.003,
}


def sets(settings: dict) -> list[str]:
    return [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]


def rows(run: Path, name: str) -> list[dict]:
    return [json.loads(line) for line in (run / name).read_text().splitlines()]


def verdicts(run: Path) -> list[tuple]:
    found = [row for row in rows(run, "gates.jsonl") if row["row"] == "verdict"]
    return [(row["stage"], row["attempt"], row["verdict"]) for row in found]


@pytest.fixture(scope="module")
def forgetful(tmp_path_factory) -> World:
    world = World.create(tmp_path_factory.mktemp("forgetful"))
    world.finish("run", "run", *sets(FORGETFUL))
    return world


def parents(world: World, out: str) -> dict[str, str | None]:
    return {path.name: read_manifest(path)[0].parent for path in world.checkpoints(out)}


def assert_same_end(world: World, out: str, whole: World) -> None:
    left, right = world.root / out, whole.root / "run"
    assert world.checkpoints(out)[-1].name == whole.checkpoints("run")[-1].name
    assert fingerprint(world.checkpoints(out)[-1]) == fingerprint(whole.checkpoints("run")[-1])
    assert deterministic_rows(left) == deterministic_rows(right)
    assert parents(world, out) == parents(whole, "run")
    for name in ("gates.jsonl", "samples.jsonl"):
        assert (left / name).read_text() == (right / name).read_text()
    # One may have been started with another setting that changes nothing, as a mirror is.
    left_rows, right_rows = (rows(run, "lineage.jsonl") for run in (left, right))
    assert [row for row in left_rows if row["event"] not in (SETTINGS, SET_ASIDE)] == right_rows


def test_a_stage_that_forgets_is_rolled_back_and_passes_with_more_replay(forgetful):
    run = forgetful.root / "run"
    assert verdicts(run) == [
        (STAGES[0], 0, "pass"),
        (STAGES[1], 0, "rollback"),
        (STAGES[1], 1, "pass"),
    ]
    begun = [row for row in rows(run, "lineage.jsonl") if row["event"] == "attempt"]
    assert begun[1]["parent"] == f"step-{LONG:08d}-a0"
    assert begun[1]["changes"]["replay_share"] == 0.5
    assert "forgotten" in begun[1]["reason"]
    checks = [row for row in rows(run, "gates.jsonl") if row["row"] == "check"]
    kept = {row["attempt"]: row for row in checks if row["id"] == "G3"}
    assert kept[0]["low"] > 0.02
    assert kept[1]["high"] < 0.01
    # what the second attempt read is half replay, and tokens add up
    last = rows(run, "gates.jsonl")[-1]
    assert last["ledger"] == dict.fromkeys(STAGES, STEPS * BATCH_TOKENS // 2)
    state = json.loads((forgetful.checkpoints("run")[-1] / "state.json").read_text())
    assert state["position"]["tokens_seen"] == (LONG + STEPS) * BATCH_TOKENS
    assert state["position"]["tokens_spent"] == (LONG + 2 * STEPS) * BATCH_TOKENS


def test_the_first_attempt_stays_and_the_second_trains_at_lower_rates(forgetful):
    found = deterministic_rows(forgetful.root / "run")
    first, second = (
        [row for row in found if row["stage"] == STAGES[1] and row["attempt"] == n] for n in (0, 1)
    )
    assert len(first) == len(second) == STEPS
    for old, new in zip(first, second, strict=True):
        assert new["learning_rate"] == pytest.approx(0.2 * old["learning_rate"])
    names = {path.name for path in forgetful.checkpoints("run")}
    assert names >= {f"step-{LONG + STEPS:08d}-a0", f"step-{LONG + STEPS:08d}-a1"}


def test_a_complete_run_with_a_rollback_is_not_trained_again(forgetful):
    more = (*sets(FORGETFUL), "--json")
    outcome = json.loads(forgetful.finish("run", "run", *more).stdout)
    assert outcome["already_complete"]
    assert [stage["attempt"] for stage in outcome["stages"]] == [0, 1]


VERDICT = {"row": "verdict", "stage": STAGES[1]}
PLATEAU = {"row": "plateau", "attempt": 0}
NEXT = {"attempt": 1}


def kill_before(row: dict, name: str, world: World, *, like: World, settings: dict) -> None:
    """Kill a run as it is about to write the first such row of the other one's file."""
    found = rows(like.root / "run", f"{name}.jsonl")
    visit = 1 + next(n for n, one in enumerate(found) if row.items() <= one.items())
    kill_at(f"rows.{name}", visit, world, settings)


def kill_at(place: str, visit: int, world: World, settings: dict) -> None:
    process = world.start("run", "run", *sets(settings), **{VARIABLE: f"{place}=kill@{visit}"})
    _, told = process.communicate(timeout=240)
    assert process.returncode == -9, told


@pytest.mark.slow
@pytest.mark.fault(40)
@pytest.mark.parametrize(
    ("row", "name"),
    [(VERDICT, "gates"), (NEXT, "lineage"), (NEXT, "metrics")],
    ids=["a verdict", "an attempt", "a step"],
)
def test_a_kill_at_the_gate_leads_to_the_same_end(forgetful, tmp_path, row, name):
    world = World.create(tmp_path / "world")
    kill_before(row, name, world, like=forgetful, settings=FORGETFUL)
    world.finish("run", "run", *sets(FORGETFUL))
    assert_same_end(world, "run", forgetful)


@pytest.mark.fault(40)
def test_a_kill_between_the_verdict_and_the_attempt_leads_to_the_same_end(forgetful):
    before_the_attempt(forgetful, "between")
    forgetful.finish("run", "between", *sets(FORGETFUL))
    assert_same_end(forgetful, "between", forgetful)


def before_the_attempt(world: World, out: str) -> Path:
    """Return a copy of the run as it was between verdict and attempt.

    Quicker than to train one that is killed there, as the slow tests do.
    """
    run = shutil.copytree(world.root / "run", world.root / out)
    (run / "exit.json").unlink()
    for path in [*run.glob("checkpoints/*-a1"), *run.glob("scores/*-a1-*")]:
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    lines = (run / "lineage.jsonl").read_text().splitlines(keepends=True)
    (run / "lineage.jsonl").write_text("".join(x for x in lines if '"attempt": 1' not in x))
    for name in ("gates.jsonl", "metrics.jsonl"):
        kept = [row for row in rows(run, name) if row["attempt"] == 0]
        (run / name).write_text("".join(json.dumps(row) + "\n" for row in kept))
    return run


@pytest.mark.fault(34)
@pytest.mark.parametrize("out", ["elsewhere", "damaged_here"])
def test_a_gate_goes_back_to_a_checkpoint_that_another_machine_wrote(forgetful, out):
    """The machine that took its place has the newest one, not that where the stage began."""
    run = before_the_attempt(forgetful, out)
    address = forgetful.root / f"mirror_of_{out}"
    shutil.copytree(run / "checkpoints", address / "checkpoints")
    parent = run / "checkpoints" / f"step-{LONG:08d}-a0"
    if out == "elsewhere":
        shutil.rmtree(parent)
    else:
        (parent / "model.safetensors").write_bytes(b"")
    more = (*sets(FORGETFUL), "--set", f"checkpoint.mirror={address}")
    told = forgetful.finish("run", out, *more).stderr
    assert f"{parent.name} is brought back from {address}, every byte compared" in told
    assert_same_end(forgetful, out, forgetful)
    aside = [row["checkpoint"] for row in events(run / "lineage.jsonl", SET_ASIDE)]
    assert aside == [parent.name] * (out == "damaged_here")


@pytest.mark.fault(34)
def test_what_a_gate_goes_back_to_is_named_where_its_copy_is_damaged_too(forgetful):
    run, address = before_the_attempt(forgetful, "both"), forgetful.root / "mirror_of_both"
    parent = run / "checkpoints" / f"step-{LONG:08d}-a0"
    (parent / "model.safetensors").write_bytes(b"")
    shutil.copytree(run / "checkpoints", address / "checkpoints")
    before = (run / "lineage.jsonl").read_bytes()
    more = (*sets(FORGETFUL), "--set", f"checkpoint.mirror={address}")
    told = forgetful.finish("run", "both", *more, code=31).stderr
    assert f"the gate asks to go back to {parent}, which cannot be used: " in told
    assert "Bring a good copy back and start again" in told
    assert (run / "lineage.jsonl").read_bytes().startswith(before)
    assert not events(run / "lineage.jsonl", SET_ASIDE)


@pytest.mark.slow
def test_a_stage_is_rolled_back_only_so_often(tmp_path):
    world = World.create(tmp_path / "world")
    stubborn = {
        **FORGETFUL,
        "stage2_sums.gate.rollback.max_rollbacks": 1,
        "stage2_sums.gate.rollback.rate_factor": 1.0,
        "stage2_sums.gate.rollback.min_replay_share": 0.1,
    }
    finished = world.finish("run", "run", *sets(stubborn), code=20)
    assert "it was rolled back 1 times, and 1 is the limit" in finished.stderr
    assert [verdict for *_, verdict in verdicts(world.root / "run")] == ["pass", "rollback", "stop"]
    assert world.exit_record("run")["code"] == 20


@pytest.mark.parametrize("schedule", ["linear_to_zero", "wsd"])
def test_a_stage_that_still_learns_is_lengthened_in_the_way_of_its_schedule(tmp_path, schedule):
    world = World.create(tmp_path / "world")
    decay = {"training.decay_fraction": 0.5} if schedule == "wsd" else {}
    more = sets({**UNREACHABLE, "training.schedule": schedule, **decay})
    world.finish("run", "run", *more, code=20)
    run = world.root / "run"
    assert verdicts(run) == [(STAGES[0], n, v) for n, v in enumerate(("extend", "extend", "stop"))]
    begun = [row for row in rows(run, "lineage.jsonl") if row["event"] == "attempt"]
    starts = [STEPS, STEPS + 2] if schedule == "linear_to_zero" else [STEPS // 2, STEPS // 2 + 2]
    assert [row["step"] for row in begun[1:]] == starts
    last = [row for row in rows(run, "metrics.jsonl") if row["attempt"] == 2]
    assert [row["step"] for row in last] == list(range(starts[1] + 1, STEPS + 4 + 1))
    ended = rows(run, "gates.jsonl")[-1]
    assert (ended["step"], ended["ledger"]) == (STEPS + 4, {STAGES[0]: (STEPS + 4) * BATCH_TOKENS})
    peak = max(row["learning_rate"] for row in last)
    assert peak == pytest.approx(0.01 if schedule == "wsd" else 0.3 * 0.01)
    assert last[-1]["learning_rate"] < last[0]["learning_rate"]


def falling(min_gain: float) -> dict:
    """A stable phase of 12 steps, of which the plateau is told by steps 10 and 12."""
    return {
        "training.schedule": "wsd",
        "training.decay_fraction": 0.25,
        "training.total_tokens": 16 * BATCH_TOKENS,
        "evaluation.every_fraction": 0.25,
        "stage1_tales.gate.extension.min_gain": min_gain,
        "stage1_tales.gate.extension.fraction": 0.25,
        "stage1_tales.gate.extension.max_extensions": 1,
        "stage1_tales.gate.extension.when": "falling",
    }


STILL, FLAT = falling(1e-6), falling(0.9)


def plateaus(run: Path) -> list[tuple]:
    found = [row for row in rows(run, "gates.jsonl") if row["row"] == "plateau"]
    return [(row["stage"], row["attempt"], row["step"], row["verdict"]) for row in found]


@pytest.fixture(scope="module")
def lengthened(tmp_path_factory) -> World:
    world = World.create(tmp_path_factory.mktemp("lengthened"))
    world.finish("run", "run", *sets(STILL))
    return world


def test_a_stage_that_still_falls_is_lengthened_before_its_decay_and_then_advances(lengthened):
    run = lengthened.root / "run"
    first, second = [row for row in plateaus(run) if row[0] == STAGES[0]]
    assert first == (STAGES[0], 0, 12, "extend")
    assert second == (STAGES[0], 1, 16, "pass")
    assert verdicts(run)[0] == (STAGES[0], 1, "pass")
    begun = [row for row in rows(run, "lineage.jsonl") if row["event"] == "attempt"]
    assert (begun[1]["step"], begun[1]["parent"]) == (12, "step-00000012-a0")
    # nothing was trained twice: the decay had not begun
    state = json.loads((lengthened.checkpoints("run")[-1] / "state.json").read_text())
    assert state["position"]["tokens_spent"] == state["position"]["tokens_seen"]
    assert state["position"]["tokens_seen"] == (16 + 4 + 16) * BATCH_TOKENS


def test_a_score_that_a_plateau_was_told_by_is_named_when_it_is_gone(lengthened, tmp_path, call):
    run = shutil.copytree(lengthened.root / "run", tmp_path / "run")
    assert call("gate", run)[0] == 0
    (run / "scores" / f"step-00000010-a0-{STAGES[0]}.json").unlink()
    code, _, told = call("gate", run)
    assert (code, f"no score of {STAGES[0]} at step 10" in told) == (30, True), told


def test_a_stage_on_its_plateau_advances_at_once(tmp_path):
    world = World.create(tmp_path / "world")
    world.finish("run", "run", *sets(FLAT))
    run = world.root / "run"
    assert plateaus(run)[0] == (STAGES[0], 0, 12, "pass")
    assert verdicts(run) == [(STAGES[0], 0, "pass"), (STAGES[1], 0, "pass")]


def test_what_a_run_begun_at_a_later_stage_will_cost_knows_its_own_borders_alone(tmp_path):
    world = World.create(tmp_path / "world")
    world.finish("train", "first", "--stage", STAGES[0])
    later = {key.replace(STAGES[0], STAGES[1]): value for key, value in FLAT.items()}
    begun = ("--stage", STAGES[1], "--init_from", str(world.root / "first"), "--max_steps", "13")
    world.finish("train", "run", *begun, *sets({**later, "budget.hours": 2}))
    folder = RunFolder(world.root / "run")
    (asked,) = [row for row in rows(folder.root, "gates.jsonl") if row["row"] == "plateau"]
    told, config = asked["evidence"]["spending"], read_frozen_config(folder)
    pace = Pace(config.model)
    for payment in read_payments(folder.spending):
        if payment.seconds <= told["spent_s"]:
            pace.add(payment)
    alone = pace.forecast(plan_stages(config)[1:], stage=0, stage_step=12)
    assert told["projected_s"] == pytest.approx(alone.whole)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("row", "name"),
    [(PLATEAU, "gates"), (NEXT, "lineage"), (NEXT, "metrics")],
    ids=["a verdict", "an attempt", "a step"],
)
def test_a_kill_at_the_plateau_leads_to_the_same_end(lengthened, tmp_path, row, name):
    world = World.create(tmp_path / "world")
    kill_before(row, name, world, like=lengthened, settings=STILL)
    world.finish("run", "run", *sets(STILL))
    assert_same_end(world, "run", lengthened)


@pytest.mark.slow
def test_a_kill_in_an_extension_leads_to_the_same_end(tmp_path):
    whole, killed = World.create(tmp_path / "whole"), World.create(tmp_path / "killed")
    whole.finish("run", "run", *sets(UNREACHABLE), code=20)
    kill_before(NEXT, "metrics", killed, like=whole, settings=UNREACHABLE)
    killed.finish("run", "run", *sets(UNREACHABLE), code=20)
    assert_same_end(killed, "run", whole)


@pytest.mark.slow
def test_the_first_stage_begins_again_from_new_weights_when_it_diverges(tmp_path):
    world = World.create(tmp_path / "world")
    world.finish("run", "run", *sets(UNSTABLE))
    run = world.root / "run"
    assert verdicts(run)[:2] == [(STAGES[0], 0, "rollback"), (STAGES[0], 1, "pass")]
    found = deterministic_rows(run)
    first = [row["loss"] for row in found if row["step"] == 1]
    assert first[0] == pytest.approx(first[1], rel=0.01)  # another order, the same new weights
    # a rollback keeps what the first order of settings said about replay: there is nothing earlier
    assert rows(run, "lineage.jsonl")[2]["changes"]["replay_share"] == 0.0


def test_thresholds_may_not_change_after_the_stage_has_started(tmp_path):
    world = World.create(tmp_path / "world")
    world.finish("run", "run", "--max_steps", "2")
    config = world.root / "run" / "config.yaml"
    loosened = "min_improvement: 0.0001"
    config.write_text(config.read_text().replace("min_improvement: 0.005", loosened))
    more = ("--set", "gate.min_improvement=0.0001")
    finished = world.finish("run", "run", *more, code=30)
    assert "may not change after its stage has started" in finished.stderr
    assert "another version of yxanul" in finished.stderr


@pytest.mark.slow
def test_two_ranks_roll_back_alike(tmp_path):
    world = World.create(tmp_path / "world")
    world.launch("run", "run", *sets(FORGETFUL))
    assert [v for *_, v in verdicts(world.root / "run")] == ["pass", "rollback", "pass"]


def test_a_person_who_goes_back_into_a_stage_reads_its_rest_anew(tmp_path_factory):
    world = finished_world(tmp_path_factory, "back")
    run = world.root / "run"
    middle = 2 * STEPS - 2
    world.finish("run", "run", "--resume", f"step-{middle:08d}-a0")
    begun = [row for row in rows(run, "lineage.jsonl") if row["event"] == "attempt"][-1]
    assert begun["changes"]["segments"] == [
        {"first": 0, "end": STEPS, "attempt": 0, "left_out": 0, "keeps_line": True},
        {"first": STEPS - 2, "end": STEPS, "attempt": 1, "left_out": 0, "keeps_line": True},
    ]
    # G0 compares the ledger of both segments with the tokens that were counted
    assert verdicts(run)[-1] == (STAGES[1], 1, "pass")
    assert sum(rows(run, "gates.jsonl")[-1]["ledger"].values()) == STEPS * BATCH_TOKENS
    losses = {row["attempt"]: row["loss"] for row in rows(run, "metrics.jsonl")}
    assert losses[0] != losses[1]


def test_a_stage_is_never_trained_over_an_unfinished_one(tmp_path):
    world = World.create(tmp_path / "world")
    world.finish("run", "run", "--max_steps", "6")
    run = world.root / "run"
    before = (run / "lineage.jsonl").read_text()
    for more in ((), ("--resume", "step-00000003-a0")):
        finished = world.finish("train", "run", "--stage", STAGES[1], *more, code=30)
        assert "has not passed its gate" in finished.stderr
    # a command that was refused has begun no attempt
    assert (run / "lineage.jsonl").read_text() == before


@pytest.mark.slow
@pytest.mark.parametrize(
    ("settings", "steps"), [(UNREACHABLE, STEPS), (UNSTABLE, 20)], ids=["extend", "rollback"]
)
def test_the_next_stage_waits_for_an_attempt_at_the_one_before(tmp_path, settings, steps):
    world = World.create(tmp_path / "world")
    kill_at("rows.metrics", steps + 1, world, settings)
    assert rows(world.root / "run", "lineage.jsonl")[-1]["attempt"] == 1
    more = ("--stage", STAGES[1], *sets(settings))
    assert "has not passed its gate" in world.finish("train", "run", *more, code=30).stderr


def test_the_next_stage_waits_for_an_attempt_whose_start_is_all_there_is_of_it(tmp_path_factory):
    """What the attempt before it passed counts no more."""
    world = finished_world(tmp_path_factory, "begun")
    again = AttemptStart(1, 0, None, "a rollback", 2 * STEPS * BATCH_TOKENS, STAGES[0])
    begin_attempt(world.root / "run" / "lineage.jsonl", again)
    refused = world.finish("train", "run", "--stage", STAGES[1], code=30)
    assert "has not passed its gate" in refused.stderr


def test_going_on_after_max_steps_is_not_run_and_stops_nothing(tmp_path):
    world = World.create(tmp_path / "world")
    world.finish("train", "run", "--stage", STAGES[0])
    world.finish("train", "run", "--stage", STAGES[1], "--max_steps", "2")
    world.finish("train", "run", "--stage", STAGES[1])
    assert verdicts(world.root / "run")[-1] == (STAGES[1], 0, "not run")


@pytest.mark.fault(22)
def test_a_checkpoint_that_is_refused_by_name_leaves_the_run_as_it_was(tmp_path):
    world, run = World.create(tmp_path), tmp_path / "run"
    first, later = (("train", "run", "--stage", stage) for stage in STAGES)
    world.finish(*first)
    kept = [run / name for name in ("lineage.jsonl", "config.yaml", "environment.json")]
    before = [path.read_text() for path in kept]
    named = run / "checkpoints" / f"step-{STEPS - 2:08d}-a0"
    # A rate of a stage that is closed where the run stands, and is not at the checkpoint.
    more = ("--resume", named.name, "--set", f"{STAGES[0]}.training.learning_rate=0.02")
    assert "which has not passed its gate" in world.finish(*later, *more, code=30).stderr
    (named / "state.json").write_text("{}")
    assert "may change differs from the run's" in world.finish(*first, *more, code=31).stderr
    assert [path.read_text() for path in kept] == before
    assert json.loads(world.finish(*first, "--json").stdout)["steps"] == STEPS


def test_the_entry_of_an_attempt_can_be_named_again_after_a_rollback(forgetful):
    shutil.copytree(forgetful.root / "run", forgetful.root / "again")
    named = f"step-{LONG:08d}-a0"
    forgetful.finish("run", "again", "--resume", named, *sets(FORGETFUL))
    found = verdicts(forgetful.root / "again")
    assert [attempt for *_, attempt, _ in found] == [0, 0, 1, 2, 3]


def test_an_attempt_whose_checkpoints_are_all_damaged_begins_again(forgetful):
    run = shutil.copytree(forgetful.root / "run", forgetful.root / "damaged")
    for path in run.glob("checkpoints/*-a1"):
        (path / "state.json").write_text("{}")
    (run / "exit.json").unlink()
    finished = forgetful.finish("run", "damaged", *sets(FORGETFUL))
    assert "falling back" in finished.stderr
    whole, other = (forgetful.checkpoints(out)[-1] for out in ("run", "damaged"))
    assert fingerprint(other) == fingerprint(whole)


@pytest.mark.slow
def test_a_run_from_other_weights_goes_on_from_them_without_the_flag(forgetful, tmp_path):
    donor = str(forgetful.checkpoints("run")[-1])
    world = World.create(tmp_path / "world")
    begin = ("train", "run", "--stage", STAGES[0])
    # Before its first checkpoint.
    process = world.start(*begin, "--init_from", donor, **{VARIABLE: "step.updated=kill@2"})
    process.communicate()
    first = rows(world.root / "run", "metrics.jsonl")[0]["loss"]
    assert world.checkpoints("run") == []
    world.finish(*begin)
    assert rows(world.root / "run", "metrics.jsonl")[0]["loss"] == first < 9


@pytest.mark.fault(40)
def test_the_end_of_a_stage_may_be_named_whose_gate_was_not_asked_there(tmp_path):
    """Its gate was cut off by a kill, and asked of another attempt since."""
    world = World.create(tmp_path)
    stage1 = ("train", "run", "--stage", STAGES[0])
    world.finish(*stage1)
    run = tmp_path / "run"
    (run / "gates.jsonl").unlink()
    world.finish(*stage1, "--resume", f"step-{STEPS - 2:08d}-a0")
    end = ("--resume", f"step-{STEPS:08d}-a0")
    refused = world.finish("train", "run", "--stage", STAGES[1], *end, code=30).stderr
    assert "which has not passed its gate" in refused
    world.finish(*stage1, *end)
    assert verdicts(run) == [(STAGES[0], 1, "pass"), (STAGES[0], 2, "pass")]
    world.finish("run", "run", "--max_steps", str(STEPS + 1))
    assert world.checkpoints("run")[-1].name == f"step-{STEPS + 1:08d}-a2"


@pytest.mark.parametrize(("is_old", "is_cut"), [(False, False), (True, False), (False, True)])
def test_a_gate_compares_the_same_documents_where_a_later_stage_was_prepared_anew(
    tmp_path, is_old, is_cut
):
    """The end of stage 1 has scored the domain of stage 2 too, over the documents of then."""
    world = World.create(tmp_path)
    world.finish("run", "run", "--max_steps", str(STEPS))
    run, texts = tmp_path / "run", tmp_path / "texts" / STAGES[1] / "texts.jsonl"
    texts.write_text(texts.read_text().replace("Question:", "Please tell me:"))
    shutil.rmtree(run / "data")
    for path in run.glob("scores/*.json") if is_old else ():
        score = json.loads(path.read_text())
        del score["text_sha256"]
        path.write_text(json.dumps(score))
    steps = (("--max_steps", str(STEPS + 1)), ()) if is_cut else ((),)
    told = "".join(world.finish("run", "run", *more).stderr for more in steps)
    assert told.count("scored again") == 1
    assert f"{STAGES[1]} is scored again at step {STEPS}" in told
    first, last = (
        scores_at(run / "scores", step, branch={0: 2 * STEPS}) for step in (STEPS, 2 * STEPS)
    )
    assert first[STAGES[1]].text_sha256 == last[STAGES[1]].text_sha256
    told_alike(run, STAGES[1], now=[first[STAGES[1]].bpb, last[STAGES[1]].bpb])


def told_alike(run: Path, domain: str, *, now: list[float]) -> None:
    """Page, card and watch leave out the score of step 0, which is of other documents."""
    watched = HeldOutScores(run / "scores").read({0: math.inf})[domain]
    assert [watched[0], watched[-1]] == now
    told = gather(run)
    reached = next(one for one in summary(told).reached if one.domain.value == domain)
    assert [reached.start.value, reached.now.value] == now
    matrix = forgetting_matrix(told)
    column = [column[0].value for column in matrix.columns].index(domain)
    cells = [row.cells[column] for row in matrix.rows]
    assert [cell.value and cell.value.value for cell in cells] == [None, *now]
    assert [cell.against_best is None for cell in cells] == [True, True, False]
    row = next(row for row in transfer(told).domains if row.domain.value == domain)
    assert row.forward is None
    assert "not those of the newest score: 1 of the scores" in bpb_chart(told).caption
    newest, _ = read_manifest(list_checkpoints(run / "checkpoints")[-1])
    card = write_card(run, checkpoints=[newest])
    assert f"| {domain} | {now[0]:.3f} | {now[1]:.3f} |" in card


@pytest.mark.fault(22)
def test_what_has_passed_is_judged_where_a_checkpoint_that_is_named_stands(tmp_path):
    world = World.create(tmp_path)
    first, later = (("train", "run", "--stage", stage) for stage in STAGES)
    middle, end = (("--resume", f"step-{step:08d}-a0") for step in (STEPS - 2, STEPS))
    world.finish(*first)
    world.finish(*first, *middle, "--max_steps", str(STEPS - 1))
    assert "has not passed its gate" in world.finish(*later, code=30).stderr
    world.finish(*later, *end, "--max_steps", "1")
    assert (tmp_path / "run" / "checkpoints" / f"step-{STEPS + 1:08d}-a2").is_dir()
    # So are the rates that may be changed: those of a stage that is not closed there.
    faster = ("--set", f"{STAGES[0]}.training.learning_rate=0.02", "--max_steps", str(STEPS - 1))
    change = f"{STAGES[0]}.training.learning_rate: 0.01 -> 0.02"
    assert change in world.finish(*first, *end, *faster, code=30).stderr
    assert f"may change differs from the run's: {change}" in (
        world.finish(*first, *middle, *faster).stderr
    )
