"""What a person may do at a gate: give it a budget, and decide otherwise with a reason."""

import json
import shutil

import pytest

from tests.train.test_gate_acts import UNREACHABLE, rows, sets, verdicts
from tests.train.world import BATCH_TOKENS, STAGES, STEPS, World, deterministic_rows, fingerprint
from yxanul.cli.main import main

SPENT = ("--set", "budget.hours=1e-9")
STUCK = {**UNREACHABLE, "stage1_tales.gate.extension.max_extensions": 0}


def gate(world: World, out: str, *words: str) -> int:
    with pytest.raises(SystemExit) as left:
        main(["gate", str(world.root / out), *words])
    return int(left.value.code or 0)


def test_a_run_whose_budget_is_spent_is_saved_and_goes_on_with_a_larger_one(tmp_path):
    world = World.create(tmp_path)
    finished = world.finish("run", "run", *SPENT, code=20)
    assert "the budget of 1e-09 hours is spent" in finished.stderr
    assert world.exit_record("run")["code"] == 20
    # the same budget again is as spent as before, and nothing is lost by asking
    world.finish("run", "run", *SPENT, code=20)
    world.finish("run", "run", "--set", "budget.hours=9")
    world.finish("run", "whole")
    run, whole = (world.root / name for name in ("run", "whole"))
    assert deterministic_rows(run) == deterministic_rows(whole)
    ends = [world.checkpoints(name)[-1] for name in ("run", "whole")]
    assert fingerprint(ends[0]) == fingerprint(ends[1])
    judged = next(row for row in rows(run, "gates.jsonl") if row["row"] == "verdict")
    told = judged["evidence"]["spending"]
    assert told["spent_s"] < told["projected_s"] < 9 * 3600
    assert 0 < told["extension_s"] < told["projected_s"]
    processes = {row["process"] for row in rows(run, "spending.jsonl")}
    assert max(processes) >= 1


def test_what_is_scored_after_the_last_step_is_paid_for_as_well(tmp_path):
    world = World.create(tmp_path)
    outcome = json.loads(world.finish("train", "run", "--stage", STAGES[0], "--json").stdout)
    spent = rows(world.root / "run", "spending.jsonl")
    assert spent[-1]["tokens_spent"] == spent[-2]["tokens_spent"] == STEPS * BATCH_TOKENS
    assert spent[-1]["seconds"] > spent[-2]["seconds"]
    assert spent[-1]["seconds"] > outcome["training_s"] + outcome["evaluation_s"]


def test_a_gate_stops_a_run_that_will_not_fit_its_budget(tmp_path):
    world = World.create(tmp_path)
    world.finish("train", "run", "--stage", STAGES[0])
    seconds = rows(world.root / "run", "spending.jsonl")[-1]["seconds"]
    step_s = min(row["step_s"] for row in rows(world.root / "run", "metrics.jsonl"))
    # Enough for the first stage on a machine that is 5 times as slow as a moment ago, and too
    # little for the second one if its steps are 5 times as fast.
    steps = round(5 * 5 * 1.2 * seconds / step_s)
    tight = {
        "budget.hours": 5 * seconds / 3600,
        "gate.min_improvement": 0.0001,
        f"{STAGES[1]}.training.total_tokens": steps * BATCH_TOKENS,
    }
    world.finish("run", "tight", *sets(tight), code=20)
    judged = [row for row in rows(world.root / "tight", "gates.jsonl") if row.get("id") == "G8"]
    assert [row["result"] for row in judged] == ["fail"]


def test_dollars_need_a_price(tmp_path):
    world = World.create(tmp_path)
    finished = world.finish("run", "run", "--set", "budget.usd=5", code=30)
    assert "budget.usd needs budget.usd_per_hour" in finished.stderr


def test_a_person_lets_a_stopped_run_go_on_and_the_scores_stay(tmp_path):
    world = World.create(tmp_path)
    finished = world.finish("run", "run", *sets(STUCK), code=20)
    assert "--override pass --reason" in finished.stderr
    run = world.root / "run"
    scores = {path: path.read_bytes() for path in run.glob("scores/*")}
    before = (run / "gates.jsonl").read_text()
    words = ("--stage", STAGES[0], "--override", "pass")
    assert gate(world, "run", *words) == 30  # no reason
    assert gate(world, "run", *words, "--reason", "the margin was a typing error") == 0
    outcome = json.loads(world.finish("run", "run", *sets(STUCK), "--json").stdout)
    assert [stage["verdict"] for stage in outcome["stages"]] == ["pass", "pass"]
    assert "typing error" in outcome["stages"][0]["why"]
    assert outcome["steps"] == 2 * STEPS
    assert (run / "gates.jsonl").read_text().startswith(before)
    assert {path: path.read_bytes() for path in scores} == scores
    assert verdicts(run)[0] == (STAGES[0], 0, "stop")
    assert gate(world, "run") == 0  # every verdict follows from what is stored, as it was given
    # what was trained after it cannot be decided again
    assert gate(world, "run", *words, "--reason", "once more") == 30


@pytest.mark.parametrize("is_gone", [True, False], ids=["machine gone", "disk kept"])
def test_what_a_person_decided_of_a_copy_is_acted_on(tmp_path, capsys, is_gone):
    """As docs/cloud.md has it: who takes the run up heeds it, whatever its disk has."""
    world, mirror = World.create(tmp_path), tmp_path / "mirror"
    stuck = sets({**STUCK, "checkpoint.mirror": str(mirror)})
    words = ("--stage", STAGES[0], "--override", "pass", "--reason", "the margin was a mistake")
    told = world.finish("run", "run", *stuck, code=20).stderr
    assert f"kept in {world.root / 'run'} (its mirror is {mirror});" in told
    if is_gone:
        shutil.rmtree(world.root / "run")
    shutil.copytree(mirror / "run", world.root / "copy")
    before = (mirror / "run" / "gates.jsonl").read_text()
    assert gate(world, "copy", *words) == 0
    assert f"mirror: {mirror} has it as well" in capsys.readouterr().err
    assert (mirror / "run" / "gates.jsonl").read_text().startswith(before)
    decided = (mirror / "run" / "gates.jsonl").read_text()
    finished = world.finish("run", "run", *stuck, "--json")
    assert ("it counts here as well" in finished.stderr) == (not is_gone)
    outcome = json.loads(finished.stdout)
    assert [stage["verdict"] for stage in outcome["stages"]] == ["pass", "pass"]
    assert (mirror / "run" / "gates.jsonl").read_text().startswith(decided)
    # The copy is older than the mirror by now.
    there = (mirror / "run" / "gates.jsonl").read_text()
    assert gate(world, "copy", *words) == 0
    assert f"what was decided is in {world.root / 'copy' / 'gates.jsonl'} alone" in (
        told := capsys.readouterr().err
    )
    assert "another machine has gone on with it" in told
    assert (mirror / "run" / "gates.jsonl").read_text() == there
    shutil.rmtree(mirror / "checkpoints")
    assert gate(world, "run", *("--stage", STAGES[1]), *words[2:]) == 0
    assert "has no copy of this attempt" in capsys.readouterr().err


def test_a_decision_that_goes_with_a_damaged_checkpoint_is_told(tmp_path):
    world = World.create(tmp_path)
    short = {"training.total_tokens": 2 * BATCH_TOKENS, "checkpoint.every_steps": 1}
    one = ("train", "run", "--stage", STAGES[0], *sets(short))
    world.finish(*one)
    assert gate(world, "run", *one[2:4], "--override", "extend", "--reason", "it still falls") == 0
    (world.checkpoints("run")[-1] / "model.safetensors").write_bytes(b"")
    told = world.finish(*one).stderr
    assert f"decided on the gate of {STAGES[0]} is gone with the checkpoint that it was" in told
    assert "extend (it still falls)" in told
    assert [attempt for _, attempt, _ in verdicts(world.root / "run")] == [0]
