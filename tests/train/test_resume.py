"""A run that was killed, interrupted or damaged ends like an unbroken one, bit for bit."""

import json
import shutil
import signal

import pytest

from tests.faults.harness import KILLED, assert_ends_like, run_with
from tests.train.world import (
    BATCH_TOKENS,
    STAGES,
    STEPS,
    World,
    deterministic_rows,
    fingerprint,
    finished_world,
)
from yxanul.curriculum.changes import Segment, StageChanges
from yxanul.failpoints import VARIABLE as FAILPOINTS
from yxanul.runfolder.lineage import BY_NAME, AttemptStart, begin_attempt
from yxanul.runfolder.rows import read_rows
from yxanul.runfolder.supervised import BEGUN_VARIABLE, NAMED_VARIABLE, VARIABLE, read_note


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    """Return a world in which one run has gone from its beginning to its end."""
    return finished_world(tmp_path_factory, "unbroken")


# Before the first checkpoint, between two, on one, at the end of a stage, in the second stage.
@pytest.mark.parametrize(
    "steps",
    [
        pytest.param((1, 7), marks=pytest.mark.slow),
        (3, STEPS),
        pytest.param((5, 12, 15), marks=pytest.mark.slow),
    ],
)
def test_a_killed_run_ends_bitwise_like_the_unbroken_one(unbroken, tmp_path, steps):
    world = World.create(tmp_path / "world")
    for step in steps:
        world.kill("run", after_step=step)
    world.finish("run", "run")
    assert_ends_like(world, unbroken)


@pytest.mark.slow
def test_ctrl_c_saves_and_leaves_with_10_and_the_run_goes_on(unbroken, tmp_path):
    world = World.create(tmp_path / "world")
    assert world.interrupt("run", after_step=4, signals=[signal.SIGINT]) == 10
    record = world.exit_record("run")
    assert record["code"] == 10
    assert record["checkpoint"] == world.checkpoints("run")[-1].name
    assert world.interrupt("run", after_step=11, signals=[signal.SIGTERM]) == 10
    world.finish("run", "run")
    assert_ends_like(world, unbroken)


@pytest.fixture(scope="module")
def killed(tmp_path_factory) -> World:
    """A world with a run that was killed after its second checkpoint; take copies of it."""
    world = World.create(tmp_path_factory.mktemp("killed"))
    run_with(world, "checkpoint.renamed=kill@2", code=KILLED)
    return world


@pytest.mark.fault(14)
@pytest.mark.fault(15)
@pytest.mark.parametrize("damage", ["flipped bit", "truncated", "missing"])
def test_a_damaged_checkpoint_is_named_and_the_one_before_is_used(unbroken, killed, damage):
    out = damage.replace(" ", "-")
    shutil.copytree(killed.root / "run", killed.root / out)
    newest = sorted((killed.root / out / "checkpoints").glob("step-*/manifest.json"))[-1].parent
    file = newest / "model.safetensors"
    content = bytearray(file.read_bytes())
    if damage == "flipped bit":
        content[len(content) // 2] ^= 1
        file.write_bytes(content)
    elif damage == "truncated":
        file.write_bytes(content[:-5])
    else:
        file.unlink()
    finished = killed.finish("run", out)
    assert str(file) in finished.stderr
    assert "falling back to the checkpoint before" in finished.stderr
    assert_ends_like(killed, unbroken, out=out)


@pytest.mark.fault(16)
def test_an_attempt_whose_checkpoints_are_gone_is_begun_again_when_asked_alone(tmp_path_factory):
    world = finished_world(tmp_path_factory, "gone")
    parent = world.root / "run" / "checkpoints" / f"step-{STEPS:08d}-a0"
    world.finish("run", "run", "--resume", str(parent), "--max_steps", str(STEPS + 2))
    for path in (world.root / "run" / "checkpoints").glob("step-*-a1"):
        shutil.rmtree(path)
    metrics = world.root / "run" / "metrics.jsonl"
    before = metrics.read_bytes()
    told = world.finish("run", "run", "--max_steps", str(STEPS + 1), code=31).stderr
    assert f"attempt 1 of {world.root / 'run'} has saved checkpoints, and none is left in" in told
    assert "begin that attempt again with --resume never" in told
    assert metrics.read_bytes() == before
    again = ("--resume", "never", "--max_steps", str(STEPS + 1))
    world.finish("run", "run", *again)
    assert read_rows(metrics)[-1]["attempt"] == 1
    for path in (world.root / "run" / "checkpoints").glob("step-*-a1"):
        shutil.rmtree(path)
    named = ("--resume", parent.name, "--max_steps", str(STEPS + 1))
    world.finish("run", "run", *named)
    assert read_rows(metrics)[-1]["attempt"] == 2
    # The same command again goes on with what it had begun.
    assert "going on from" in world.finish("run", "run", *named).stderr
    assert read_rows(metrics)[-1]["attempt"] == 2


def test_an_attempt_that_lost_what_it_began_from_says_so(tmp_path_factory):
    world = finished_world(tmp_path_factory, "orphan")
    folder = world.root / "run" / "checkpoints"
    parent = f"step-{STEPS:08d}-a0"
    world.finish("run", "run", "--resume", parent, "--max_steps", str(STEPS + 2))
    for path in folder.glob("step-*-a*"):
        shutil.rmtree(path)
    told = world.finish("run", "run", "--resume", "never", code=31).stderr
    assert f"attempt 1 begins from {folder / parent}, which is gone" in told
    # Nothing was begun, so nothing is settled: the next start must not begin it over unasked.
    assert "attempt 1 of" in world.finish("run", "run", code=31).stderr


@pytest.mark.fault(16)
def test_a_run_never_starts_over_when_all_checkpoints_are_bad(unbroken):
    copy = shutil.copytree(unbroken.root / "run", unbroken.root / "bad")
    (copy / "exit.json").unlink()
    for checkpoint in unbroken.checkpoints("bad"):
        (checkpoint / "state.json").write_text("{}")
    finished = unbroken.finish("run", "bad", code=31)
    assert "Nothing was started over" in finished.stderr
    assert unbroken.exit_record("bad")["code"] == 31
    # Set aside, they still count: a second start must not take the folder for a new one.
    assert "Nothing was started over" in unbroken.finish("run", "bad", code=31).stderr


@pytest.mark.fault(16)
@pytest.mark.parametrize("gone", ["step-*", "*"], ids=["but the hint", "all"])
def test_a_run_never_starts_over_when_its_checkpoints_are_gone(unbroken, gone):
    copy = unbroken.root / "gone"
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(unbroken.root / "run", copy)
    (copy / "exit.json").unlink()
    for path in (copy / "checkpoints").glob(gone):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    kept = [copy / name for name in ("metrics.jsonl", "gates.jsonl", "samples.jsonl")]
    kept += [path for path in (copy / "scores").rglob("*") if path.is_file()]
    before = {path: path.read_bytes() for path in kept}
    for _ in range(2):  # what the first start leaves must not let the second one begin anew
        finished = unbroken.finish("run", "gone", code=31)
        assert f"none is left in {copy / 'checkpoints'}" in finished.stderr
        # Refused, so nothing is begun again, and the loss is one still.
        weights = ("--init_from", str(unbroken.root / "run"))
        unbroken.finish("run", "gone", "--resume", "never", *weights, code=30)
    assert {path: path.read_bytes() for path in kept} == before


@pytest.mark.fault(16)
def test_a_later_stage_whose_run_lost_its_checkpoints_is_no_run_that_lacks_a_stage(unbroken):
    copy = unbroken.root / "later"
    shutil.copytree(unbroken.root / "run", copy, ignore=lambda *_: {"checkpoints"})
    later = ("train", "later", "--stage", STAGES[1])
    assert json.loads(unbroken.finish(*later, "--json").stdout)["already_complete"]
    (copy / "exit.json").unlink()
    assert f"none is left in {copy / 'checkpoints'}" in unbroken.finish(*later, code=31).stderr
    told = unbroken.finish(*later, "--resume", "never", code=30).stderr
    assert f"needs the weights of {STAGES[0]}" in told


@pytest.mark.fault(16)
def test_who_deletes_the_checkpoints_may_begin_again(tmp_path):
    world = World.create(tmp_path)
    world.finish("run", "run", "--max_steps", "2")
    never = ("--resume", "never")
    assert (
        "choose another --out or delete them" in world.finish("run", "run", *never, code=30).stderr
    )
    for path in world.checkpoints("run"):
        shutil.rmtree(path)
    world.finish("run", "run", code=31)
    run_with(world, "step.updated=kill@1", *never, code=KILLED)
    # It had not saved yet: what tells of the deleted ones is no loss of its own.
    world.finish("run", "run", "--max_steps", "1")
    assert [path.name for path in world.checkpoints("run")] == ["step-00000001-a0"]
    shutil.rmtree(world.checkpoints("run")[0])
    world.finish("run", "run", code=31)


def test_stage_by_stage_gives_the_same_weights_as_one_run(unbroken, tmp_path):
    world = World.create(tmp_path / "world")
    for stage in STAGES:
        world.finish("train", "run", "--stage", stage)
    whole, other = unbroken.checkpoints("run")[-1], world.checkpoints("run")[-1]
    assert fingerprint(other) == fingerprint(whole)


def test_a_complete_run_is_neither_trained_again_nor_failed(unbroken):
    before = fingerprint(unbroken.checkpoints("run")[-1])
    outcome = json.loads(unbroken.finish("run", "run", "--json").stdout)
    assert outcome["already_complete"]
    assert [stage["verdict"] for stage in outcome["stages"]] == ["pass", "pass"]
    assert outcome["tokens_per_s"] > 0
    assert fingerprint(unbroken.checkpoints("run")[-1]) == before


def test_max_steps_stops_early_and_the_schedule_stays(unbroken, tmp_path):
    world = World.create(tmp_path / "world")
    outcome = json.loads(world.finish("run", "run", "--json", "--max_steps", "3").stdout)
    assert (outcome["steps"], outcome["stages"][0]["verdict"]) == (3, "not run")
    rows = deterministic_rows(world.root / "run")
    assert rows == deterministic_rows(unbroken.root / "run")[:3]
    # Going on, the first stage has no score from its entry: its gate is not run, and says so.
    outcome = json.loads(world.finish("run", "run", "--json").stdout)
    assert [stage["verdict"] for stage in outcome["stages"]] == ["not run", "pass"]
    assert fingerprint(world.checkpoints("run")[-1]) == fingerprint(unbroken.checkpoints("run")[-1])
    assert json.loads(world.finish("run", "run", "--json").stdout)["already_complete"]


def test_a_named_checkpoint_begins_an_attempt_that_survives_a_kill(unbroken):
    shutil.copytree(unbroken.root / "run", unbroken.root / "branch")
    # What was spent is in the newest one's state; its tensors are not read.
    (unbroken.checkpoints("branch")[-1] / "model.safetensors").write_bytes(b"")
    named = f"step-{STEPS:08d}-a0"
    more = ("--resume", named, "--set", "checkpoint.every_steps=100")
    run_with(unbroken, "step.updated=kill@2", *more, out="branch", code=KILLED)
    outcome = json.loads(unbroken.finish("run", "branch", *more, "--json").stdout)
    assert outcome["steps"] == 2 * STEPS
    state = json.loads((unbroken.checkpoints("branch")[-1] / "state.json").read_text())
    assert state["position"]["tokens_spent"] == 3 * STEPS * BATCH_TOKENS
    assert unbroken.checkpoints("branch")[-1].name == f"step-{2 * STEPS:08d}-a1"
    rows = [row for row in deterministic_rows(unbroken.root / "branch") if row["attempt"] == 1]
    assert [row["step"] for row in rows] == list(range(STEPS + 1, 2 * STEPS + 1))


def attempts(world: World, out: str) -> list[tuple]:
    begun = [r for r in read_rows(world.root / out / "lineage.jsonl") if r["event"] == "attempt"]
    return [(row["attempt"], row["parent"]) for row in begun]


def test_the_same_name_again_goes_on_with_what_gates_have_made_of_it(unbroken, monkeypatch):
    run = shutil.copytree(unbroken.root / "run", unbroken.root / "gates-since")
    middle, entry = (f"step-{step:08d}-a0" for step in (2 * STEPS - 2, STEPS))
    goes_back = ("run", "gates-since", "--resume", middle, "--max_steps", str(STEPS + 7))
    unbroken.finish(*goes_back)
    assert attempts(unbroken, "gates-since") == [(0, None), (1, middle)]
    # A gate goes back to before what the person named.
    changes = StageChanges(rollbacks=1, segments=(Segment(0, STEPS, 2),)).as_row()
    rollback = AttemptStart(2, STEPS, entry, "a rollback", stage=STAGES[1], changes=changes)
    begin_attempt(run / "lineage.jsonl", rollback)
    told = unbroken.finish(*goes_back).stderr
    assert f"--resume {middle}: the run has gone on from there already" in told
    assert attempts(unbroken, "gates-since")[2:] == [(2, entry)]
    assert (run / "checkpoints" / f"step-{2 * STEPS - 1:08d}-a2").exists()
    note = unbroken.root / "note"
    monkeypatch.setenv(VARIABLE, str(note))
    monkeypatch.setenv(BEGUN_VARIABLE, str(run.resolve()))  # by a start that ended before it did so
    unbroken.finish(*goes_back, "--fresh")
    assert attempts(unbroken, "gates-since")[3:] == [(3, middle)]
    # What a supervisor starts again goes on with what an earlier start began.
    monkeypatch.setenv(NAMED_VARIABLE, read_note(note)["named"])
    unbroken.finish(*goes_back, "--fresh")
    assert len(attempts(unbroken, "gates-since")) == 4
    other = unbroken.root / "another" / middle
    unbroken.finish("run", "gates-since", "--resume", str(other), code=30)
    # Of another folder's checkpoint of that name nothing is known here.
    monkeypatch.setenv(NAMED_VARIABLE, str(other))
    unbroken.finish(*goes_back, "--fresh")
    assert attempts(unbroken, "gates-since")[4:] == [(4, middle)]


def test_the_newest_checkpoint_named_again_when_it_is_older_or_gone_is_gone_on_from(
    tmp_path, monkeypatch
):
    world, note = World.create(tmp_path), tmp_path / "note"
    world.finish("run", "run", "--max_steps", "3")
    named = world.checkpoints("run")[-1].name
    for steps in (5, 7, 8):
        world.finish("run", "run", "--resume", named, "--max_steps", str(steps))
        assert (world.checkpoints("run")[0].name == named) == (steps == 5)
    assert attempts(world, "run") == [(0, None)]
    rows = read_rows(world.root / "run" / "metrics.jsonl")
    assert [row["step"] for row in rows] == list(range(1, 9))
    monkeypatch.setenv(VARIABLE, str(note))
    told = world.finish("run", "run", "--resume", named, "--fresh", code=30).stderr
    assert f"--resume {named}: there is no such checkpoint" in told
    assert "run_folder" not in read_note(note), "it is told before data is looked at"


def test_no_other_checkpoint_stands_in_for_a_damaged_one_that_was_named(unbroken):
    run = shutil.copytree(unbroken.root / "run", unbroken.root / "named-damaged")
    newest, lineage = unbroken.checkpoints("named-damaged")[-1], run / "lineage.jsonl"
    (newest / "model.safetensors").write_bytes(b"")
    before = read_rows(lineage)
    told = unbroken.finish("run", "named-damaged", "--resume", newest.name, code=31).stderr
    assert str(newest / "model.safetensors") in told
    new = read_rows(lineage)[len(before) :]
    assert not [row for row in new if row["event"] in (BY_NAME, "set aside")]
    assert newest.is_dir()


def test_what_is_no_checkpoints_name_is_refused_before_a_copy_is_brought(tmp_path):
    world, to = World.create(tmp_path), f"checkpoint.mirror={tmp_path / 'mirror'}"
    told = world.finish("run", "run", "--resume", "step-8", "--set", to, code=30).stderr
    assert "--resume step-8: there is no such checkpoint" in told
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_stage_that_was_stopped_goes_on_as_a_run(unbroken, tmp_path):
    world = World.create(tmp_path / "world")
    stop = {FAILPOINTS: "rows.metrics=stop@3"}
    process = world.start("train", "run", "--stage", STAGES[0], **stop)
    process.communicate(timeout=60)
    assert process.returncode == 10
    outcome = json.loads(world.finish("run", "run", "--json").stdout)
    assert [stage["verdict"] for stage in outcome["stages"]] == ["pass", "pass"]
    assert fingerprint(world.checkpoints("run")[-1]) == fingerprint(unbroken.checkpoints("run")[-1])


@pytest.mark.slow
def test_each_stage_may_be_planned_in_epochs(tmp_path):
    world = World.create(tmp_path / "world")
    for stage in STAGES:
        more = ("--stage", stage, "--num_epochs", "1", "--json")
        outcome = json.loads(world.finish("train", "run", *more).stdout)
        assert outcome["stages"][0]["name"] == stage


def test_data_that_changed_since_the_checkpoint_is_refused(tmp_path):
    world = World.create(tmp_path / "world")
    world.finish("run", "run", "--max_steps", "2")
    shutil.rmtree(world.root / "run" / "data")
    texts = world.root / "texts" / STAGES[0] / "texts.jsonl"
    texts.write_text(texts.read_text().replace("lantern", "bucket"))
    finished = world.finish("run", "run", code=31)
    assert "was trained on other data" in finished.stderr
    assert STAGES[0] in finished.stderr


def test_a_checkpoint_of_another_run_is_no_place_to_resume_from(unbroken, tmp_path):
    other = unbroken.checkpoints("run")[-1]
    shutil.copytree(unbroken.root / "run", unbroken.root / "mine")
    for name in (str(other), "", "/etc", "step-00000099-a0"):
        finished = unbroken.finish("run", "mine", "--resume", name, code=30)
        assert "--init_from" in finished.stderr


@pytest.mark.parametrize("content", ["[]", '{"code": 0, "outcome": {}}', "{", ""])
def test_a_damaged_exit_record_costs_nothing(unbroken, content):
    copy = unbroken.root / "record"
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(unbroken.root / "run", copy)
    (copy / "exit.json").write_text(content)
    (copy / "environment.json").write_text(content)
    outcome = json.loads(unbroken.finish("run", "record", "--json").stdout)
    assert [stage["verdict"] for stage in outcome["stages"]] == ["pass", "pass"]


@pytest.mark.parametrize("row", ['{"stage": "x"}', '{"stage": 3, "step": "y"}', "[]", "{"])
def test_a_damaged_verdict_is_named(unbroken, row):
    copy = unbroken.root / "gates"
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(unbroken.root / "run", copy)
    (copy / "gates.jsonl").write_text(row + "\n")
    assert "gates.jsonl, line 1" in unbroken.finish("run", "gates", code=31).stderr


def test_a_damaged_lineage_is_told_and_leaves_a_record(unbroken):
    copy = shutil.copytree(unbroken.root / "run", unbroken.root / "lineage")
    (copy / "lineage.jsonl").write_text("nonsense\n")
    assert "lineage.jsonl" in unbroken.finish("run", "lineage", code=31).stderr
    assert unbroken.exit_record("lineage")["code"] == 31
