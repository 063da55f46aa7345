"""What a whole run leaves behind, and how it answers to wrong requests."""

import errno
import json
import re
import shutil
import signal
import sys

import pytest
import torch

import yxanul
from tests.data.closing import close
from tests.hardware.cards import NOT_UP, TOO_OLD, unused
from tests.train.world import (
    ADAMW,
    BATCH_TOKENS,
    STAGES,
    STEPS,
    Finished,
    World,
    deterministic_rows,
    finished_world,
    go_on,
    last_step,
)
from yxanul.failpoints import VARIABLE
from yxanul.hardware import choices
from yxanul.runfolder import supervised
from yxanul.runfolder.durable import sha256_of
from yxanul.runfolder.rows import read_rows
from yxanul.runfolder.supervised import BEGUN_VARIABLE


@pytest.fixture
def world(tmp_path):
    return World.create(tmp_path)


@pytest.fixture(scope="module")
def first(tmp_path_factory) -> tuple[World, Finished]:
    """A world with a run that has ended, and what it said."""
    world = World.create(tmp_path_factory.mktemp("first"))
    return world, world.finish("run", "run", "--json")


def test_a_run_leaves_the_promised_folder(first):
    world, finished = first
    outcome = json.loads(finished.stdout)
    run = world.root / "run"
    assert outcome["steps"] == 2 * STEPS
    assert outcome["tokens_seen"] == 2 * STEPS * BATCH_TOKENS
    assert outcome["tokens_per_s"] > 0
    assert outcome["mfu"] > 0  # the products were timed in another moment of a busy machine
    for stage, domain in zip(outcome["stages"], STAGES, strict=True):
        assert stage["verdict"] == "pass"
        assert stage["bpb_after"][domain] < stage["bpb_before"][domain]
        assert set(stage["bpb_after"]) == set(STAGES)
    for name in ("config.yaml", "environment.json", "data/manifest.json", "metrics.jsonl"):
        assert (run / name).is_file()
    assert world.exit_record("run")["code"] == 0
    assert outcome["report"] == str(run / "report.html")
    assert "report" not in world.exit_record("run")["outcome"]  # which is written before it
    assert "complete" in (run / "report.html").read_text()
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == list(range(1, 2 * STEPS + 1))
    assert [row["seq_len"] for row in rows] == ([32] * (STEPS // 2) + [64] * (STEPS // 2)) * 2
    assert rows[-1]["learning_rate"] < rows[STEPS]["learning_rate"]
    # keep = 2 newest, and the end of each stage for good
    assert {c.name for c in world.checkpoints("run")} >= {
        f"step-{STEPS:08d}-a0",
        f"step-{2 * STEPS:08d}-a0",
    }


def test_samples_are_written_at_every_border(first):
    world, finished = first
    lines = (world.root / "run" / "samples.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    assert [(row["step"], row["stage"]) for row in rows] == [
        (0, STAGES[0]),
        (STEPS, STAGES[0]),
        (2 * STEPS, STAGES[1]),
    ]
    assert {row["prompt"] for row in rows} == {"The miller"}
    assert len({row["continuation"] for row in rows}) == 3
    assert (
        f"sample: The miller{rows[-1]['continuation']}".split()[:4]
        == next(
            line for line in reversed(finished.stderr.splitlines()) if line.startswith("sample")
        ).split()[:4]
    )


def test_a_stage_that_does_not_improve_stops_the_run_and_keeps_everything(world):
    limits = ("--set", "gate.extension.max_extensions=0")
    more = ("--set", "stage1_tales.gate.min_improvement=0.99", *limits)
    finished = world.finish("run", "run", *more, code=20)
    assert "did not fall by 99" in finished.stderr
    assert [c.name for c in world.checkpoints("run")][-1] == f"step-{STEPS:08d}-a0"
    assert world.exit_record("run")["code"] == 20
    assert "did not fall" in (world.root / "run" / "report.html").read_text()
    # Started again, the verdict stands.
    before = (world.root / "run" / "gates.jsonl").read_text()
    assert before.count('"row": "verdict"') == 1
    world.finish("run", "run", *more, code=20)
    assert (world.root / "run" / "gates.jsonl").read_text() == before


def test_a_report_that_cannot_be_written_takes_the_place_of_no_end(world, monkeypatch):
    for out in ("run", "other"):
        (world.root / out / "report.html").mkdir(parents=True)  # no file can take its place
    finished = world.finish("run", "run", "--json")
    outcome = json.loads(finished.stdout)
    assert (outcome["steps"], outcome["report"]) == (2 * STEPS, None)
    assert "report" not in world.exit_record("run")["outcome"]
    assert "report not written: " in finished.stderr
    assert "report.html could not be written" in finished.stderr
    limits = ("--set", "gate.extension.max_extensions=0")
    more = ("--set", "stage1_tales.gate.min_improvement=0.99", *limits)
    stopped = world.finish("run", "other", *more, code=20).stderr
    assert "report not written: " in stopped
    assert "did not fall by 99" in stopped

    def broken(_: object) -> str:
        raise KeyError("a bug")

    monkeypatch.setattr("yxanul.report.write.render", broken)
    stopped = world.finish("run", "other", *more, code=20).stderr
    assert "report not written: internal error: KeyError: 'a bug'" in stopped
    assert "Traceback" in stopped


@pytest.mark.fault(22)
def test_other_settings_are_refused_on_resume_with_the_difference(world):
    world.finish("run", "run", "--max_steps", "2")
    more = ("--set", "optimizer.weight_decay=0.5", "--set", "logging.prompt_tokens=2")
    finished = world.finish("run", "run", *more, code=30)
    assert "optimizer.weight_decay: 0.01 -> 0.5" in finished.stderr
    assert "logging" not in finished.stderr
    assert "Traceback" not in finished.stderr
    allowed = world.finish("run", "run", "--max_steps", "3", "--set", "checkpoint.keep=3")
    assert "may change differs from the run's: checkpoint.keep: 2 -> 3" in (allowed.stderr)
    # What a card with less memory asks for.
    smaller = ("--set", "compute.micro_batch_tokens=32", "--set", "compute.loss_chunk_tokens=16")
    told = world.finish("run", "run", "--max_steps", "4", *smaller).stderr
    assert "the run's: compute.micro_batch_tokens: 64 -> 32" in told
    assert "the run's: compute.loss_chunk_tokens: " in told
    less = ("--set", "compute.gradient_checkpointing=true")
    told = world.finish("run", "run", "--max_steps", "5", *less).stderr
    assert "the run's: compute.gradient_checkpointing: False -> True" in told
    # A flag that was forgotten needs more memory than the run was begun with.
    more = world.finish("run", "run", code=30).stderr
    assert "compute.gradient_checkpointing: True -> False" in more


@pytest.mark.fault(22)
def test_rates_of_a_stage_that_is_not_closed_may_change_on_resume_which_is_told_and_kept(world):
    world.finish("run", "run", "--max_steps", "4")
    faster = ("--set", "stage1_tales.training.learning_rate=0.02")
    change = "stage1_tales.training.learning_rate: 0.01 -> 0.02"
    assert change in world.finish("run", "run", "--max_steps", "5", *faster).stderr
    run = world.root / "run"
    assert change in (run / "lineage.jsonl").read_text()
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    shares = [row["learning_rate"] / row["embedding_learning_rate"] for row in rows]
    assert shares == pytest.approx([0.5] * 4 + [1.0])
    # A stage that has passed its gate was trained with what its settings say.
    world.finish("train", "run", "--stage", STAGES[0], *faster)
    finished = world.finish("run", "run", code=30)
    assert "stage1_tales.training.learning_rate: 0.02 -> 0.01" in finished.stderr
    later = (*faster, "--set", "stage2_sums.training.norm_learning_rate=0.03")
    world.finish("run", "run", "--max_steps", str(STEPS + 2), *later)
    changed = json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])
    assert changed["norm_learning_rate"] == pytest.approx(3 * changed["learning_rate"])


def test_settings_that_were_edited_behind_a_killed_run_are_told(world):
    """Together with the configuration: nothing differs from what the folder says."""
    world.finish("run", "run", "--max_steps", "2")
    run = world.root / "run"
    config = run / "config.yaml"
    manifest = json.loads((world.checkpoints("run")[-1] / "manifest.json").read_text())
    assert manifest["config_sha256"] == sha256_of(config)
    assert (manifest["world_size"], manifest["code_version"]) == (1, yxanul.__version__)
    (run / "sums.json").unlink()  # as a kill leaves it
    edited = config.read_text().replace("weight_decay: 0.01", "weight_decay: 0.02")
    assert edited != config.read_text()
    config.write_text(edited)
    more = ("--set", "optimizer.weight_decay=0.02")
    words = f"{config} is not what the run wrote"
    assert words in world.finish("run", "run", "--max_steps", "3", *more).stderr
    assert words not in world.finish("run", "run", "--max_steps", "4", *more).stderr


def test_settings_that_a_start_wrote_before_it_was_killed_are_no_edited_ones(world):
    world.finish("run", "run", "--max_steps", "2")
    told = world.finish("run", "run", "--max_steps", "3", "--set", "checkpoint.keep=3").stderr
    assert "is not what the run wrote" not in told
    run = world.root / "run"
    shutil.rmtree(run / "checkpoints" / "step-00000003-a0")  # of which alone they were the settings
    (run / "sums.json").unlink()
    again = world.finish("run", "run", "--max_steps", "3", "--set", "checkpoint.keep=3").stderr
    assert "is not what the run wrote" not in again
    events = [json.loads(line) for line in (run / "lineage.jsonl").read_text().splitlines()]
    assert [e["what"] for e in events if e["event"] == "settings"] == ["checkpoint.keep: 2 -> 3"]
    assert "checkpoint.keep: 2 -&gt; 3" in (run / "report.html").read_text()


def test_texts_that_changed_under_a_run_are_told_and_it_goes_on_with_what_is_prepared(world):
    world.finish("run", "run", "--max_steps", "2")
    (world.root / "texts" / STAGES[0] / "later.txt").write_text("A text that came later.\n" * 99)
    told = world.finish("run", "run", "--max_steps", "3").stderr
    assert "is not as it was" in told
    assert "What is prepared is in use, and stays as it is." in " ".join(told.split())
    assert last_step(world.root / "run" / "metrics.jsonl") == 3


def test_texts_that_may_not_be_read_any_more_end_no_run_that_has_begun(world, monkeypatch):
    world.finish("run", "run", "--max_steps", "1")
    close(world.texts, monkeypatch)
    told = world.finish("run", "run", "--max_steps", "2").stderr
    assert "texts cannot be read (Permission denied)" in told
    assert world.exit_record("run")["code"] == 0
    assert last_step(world.root / "run" / "metrics.jsonl") == 2
    assert "cannot be read" in world.finish("run", "other", code=31).stderr
    assert world.exit_record("other")["code"] == 31


def test_a_run_goes_on_where_what_it_chose_by_itself_cannot_be(world):
    """An H100 that was taken away may come back as an A100."""
    world.finish("run", "run", "--max_steps", "2")
    config = world.root / "run" / "config.yaml"
    kept = config.read_text()
    for name, value in (("attention", "flash3"), ("flash_attention_3", "true"), ("fp8", "ffn")):
        kept, count = re.subn(rf"(?m)^( +{name}: ).*$", rf"\g<1>{value}", kept)
        assert count == 1
    config.write_text(kept)
    wish = ("--max_steps", "3", "--set", "compute.fp8=auto")
    told = world.finish("run", "run", *wish).stderr
    assert "differs from the run's: compute.attention: flash3 -> plain" in told
    assert "compute.fp8: ffn -> off" in told
    # On a machine like the first one its own choices hold again.
    assert config.read_text() == kept
    # What a person asked for is not given up.
    asked = world.finish("run", "run", "--set", "compute.attention=flash3", code=30)
    assert "compute.attention=flash3 runs on Hopper cards only" in asked.stderr


def test_a_later_stage_without_weights_is_refused(world):
    finished = world.finish("train", "run", "--stage", STAGES[1], code=30)
    assert "needs the weights of stage1_tales" in finished.stderr


def test_a_later_stage_starts_from_named_weights(world):
    world.finish("train", "first", "--stage", STAGES[0])
    more = ["--stage", STAGES[1], "--init_from", str(world.root / "first"), "--json"]
    more += ["--set", f"checkpoint.mirror={world.root / 'mirror'}"]
    done = world.finish("train", "second", *more)
    outcome = json.loads(done.stdout)
    assert f"{world.checkpoints('first')[-1]} is not copied to {world.root}/mirror" in done.stderr
    assert [stage["name"] for stage in outcome["stages"]] == [STAGES[1]]
    assert outcome["stages"][0]["bpb_before"][STAGES[0]] < 4


def test_num_epochs_plans_the_stage_from_its_own_sources(world):
    more = ("--stage", STAGES[0], "--num_epochs", "0.1", "--json")
    outcome = json.loads(world.finish("train", "run", *more).stdout)
    manifest = json.loads((world.root / "run" / "data" / "manifest.json").read_text())
    tokens = manifest["sources"][STAGES[0]]["train"]["tokens"]
    assert outcome["tokens_seen"] == int(0.1 * tokens) // BATCH_TOKENS * BATCH_TOKENS


def test_a_source_that_is_read_too_often_is_told_before_the_first_step(world):
    words = ["--stage", STAGES[0], "--num_epochs", "16", "--max_steps", "1"]
    said = world.finish("train", "run", *words).stderr
    assert f"{STAGES[0]} is read 16.1 times, which is worth 10.6 times fresh text" in said
    assert said.index("is read 16.1 times") < said.index("parameters")
    words[3] = "3"
    assert " times, which is worth" not in world.finish("train", "other", *words).stderr


def test_what_no_gate_can_tell_is_said_before_the_first_step(world):
    few = f"{STAGES[0]}.data.validation_fraction=0.01"
    words = ["--stage", STAGES[0], "--max_steps", "1"]
    said = world.finish("train", "run", *words, "--set", few).stderr
    told = f"{STAGES[0]} has 2 held-out documents, fewer than 5, which prove nothing"
    assert said.index(told) < said.index("parameters")
    told = f"{STAGES[0]}: fewer than 4 scores before the end, so that the noise of training is not"
    assert said.index(told) < said.index("parameters")
    often = world.finish("train", "other", *words, "--set", "evaluation.every_fraction=0.125")
    assert "prove nothing" not in often.stderr
    assert "noise of training" not in often.stderr


@pytest.mark.slow  # tests/data/test_order.py counts the chunks of both
def test_a_stage_that_comes_to_its_mixture_along_a_line_reads_as_much_of_each_source(world):
    soft = f"{STAGES[1]}.data.ramp_fraction=0.5"
    ledgers = []
    for name, words in (("hard", []), ("soft", ["--set", soft])):
        assert json.loads(world.finish("run", name, "--json", *words).stdout)["steps"] == 2 * STEPS
        rows = (world.root / name / "gates.jsonl").read_text().splitlines()
        ledgers.append([found for row in rows if (found := json.loads(row).get("ledger"))])
    assert len(ledgers[0]) == 2
    assert ledgers[0] == ledgers[1]


def test_a_refused_command_leaves_the_record_of_the_run(tmp_path_factory):
    world = finished_world(tmp_path_factory, "refused")
    before = world.exit_record("run")
    world.finish("run", "run", "--set", "training.learning_rate=0.5", code=30)
    assert world.exit_record("run") == before
    assert json.loads(world.finish("run", "run", "--json").stdout)["already_complete"]


def test_a_killed_run_does_not_tell_how_the_process_before_it_ended(world):
    world.finish("run", "run", "--max_steps", "2")
    assert world.exit_record("run")["code"] == 0
    process = world.start("run", "run", **{VARIABLE: "step.updated=kill@2"})
    _, told = process.communicate(timeout=240)
    assert process.returncode == -signal.SIGKILL, told
    assert not (world.root / "run" / "exit.json").exists()


def test_what_is_refused_late_leaves_the_record_of_the_run(world):
    begun = ("train", "run", "--stage", STAGES[0])
    world.finish(*begun, "--max_steps", "2")
    before = world.exit_record("run")
    donor = str(world.checkpoints("run")[-1])
    told = world.finish(*begun, "--init_from", donor, code=30).stderr
    assert "was begun from new weights" in told
    assert world.exit_record("run") == before


@pytest.mark.parametrize("place", ["loop.guarded_step", "gates.borders.write_samples"])
def test_a_run_that_ends_before_its_first_row_has_ended_so(world, monkeypatch, place):
    """In its first step, and among the scores at a stage's end."""
    if "borders" in place:
        world.finish("train", "run", "--stage", STAGES[0])
        (world.root / "run" / "gates.jsonl").unlink()  # as a kill leaves it

    def come_to_a_closed_path(*_, **__):
        raise PermissionError(errno.EACCES, "Permission denied", "/somewhere/file")

    monkeypatch.setattr(f"yxanul.train.{place}", come_to_a_closed_path)
    world.finish("run", "run", code=30)
    (world.root / "run" / "exit.json").write_text(json.dumps({"code": 10}))
    world.finish("run", "run", code=30)
    assert "/somewhere/file cannot be used" in world.exit_record("run")["reason"]


def test_what_a_refused_command_leaves_behind_is_no_run(world):
    (world.root / "texts" / STAGES[1]).rename(world.root / "elsewhere")
    refused = world.finish("run", "run", code=30)
    assert f"has no subfolder for {STAGES[1]}" in refused.stderr
    (world.root / "elsewhere").rename(world.root / "texts" / STAGES[1])
    world.finish("run", "run", "--fresh", "--max_steps", "1")
    assert "is not empty" in world.finish("run", "run", "--fresh", code=30).stderr


@pytest.mark.parametrize("words", [("--fresh",), ("--resume", "never")], ids=" ".join)
def test_a_supervised_run_that_began_anew_may_be_started_again(world, monkeypatch, words):
    world.finish("run", "run", *words, "--max_steps", "4")
    world.finish("run", "run", *words, "--max_steps", "5", code=30)
    monkeypatch.setenv(BEGUN_VARIABLE, str(world.root.resolve() / "another"))
    world.finish("run", "run", *words, "--max_steps", "5", code=30)
    monkeypatch.setenv(BEGUN_VARIABLE, str(world.root.resolve() / "run"))
    world.finish("run", "run", *words, "--max_steps", "5")
    steps = [row["step"] for row in read_rows(world.root / "run" / "metrics.jsonl")]
    assert steps == [1, 2, 3, 4, 5]


def test_the_recorded_command_can_be_written_again(world, monkeypatch):
    # As `python -m yxanul` finds it.
    monkeypatch.setattr(sys, "argv", world.command("run", "run", "--max_steps", "1")[2:])
    world.finish("run", "run", "--max_steps", "1")
    command = json.loads((world.root / "run" / "environment.json").read_text())["command"]
    assert command.startswith("yxanul run --config_dir ")


@pytest.mark.fault(35)
def test_a_second_process_may_not_train_in_the_same_folder(world):
    first = world.start_to("run", 1)
    try:
        second = world.finish("run", "run", code=30)
        assert f"pid {first.pid}" in second.stderr
    finally:
        first.send_signal(signal.SIGTERM)
        go_on(first)
    assert first.returncode == 10


def test_fresh_refuses_a_folder_that_is_not_empty(world):
    (world.root / "run").mkdir()
    (world.root / "run" / "notes.txt").write_text("mine")
    assert "--fresh" in world.finish("run", "run", "--fresh", code=30).stderr


def test_the_deepspeed_door_names_its_extra(world, monkeypatch):
    monkeypatch.setattr("yxanul.parallel.wrapping.find_spec", lambda name: None)
    more = ("--stage", STAGES[0], "--deepspeed", "configs/deepspeed_config.json")
    assert "yxanul[deepspeed]" in world.finish("train", "run", *more, *ADAMW, code=30).stderr


@pytest.mark.fault(19)
def test_a_flipped_bit_in_a_shard_stops_the_run_before_it_trains(world, call):
    world.finish("run", "run", "--max_steps", "1")
    shard = next((world.root / "run" / "data").glob("*/train-00000.bin"))
    content = bytearray(shard.read_bytes())
    content[len(content) // 3] ^= 4
    shard.write_bytes(content)
    assert str(shard) in world.finish("run", "run", code=31).stderr
    code, _, err = call("inspect", world.root / "run", "--verify")
    assert code == 31
    assert str(shard) in err


@pytest.mark.fault(23)
@pytest.mark.parametrize("go", [World.join, pytest.param(World.launch, marks=pytest.mark.slow)])
def test_two_ranks_train_the_same_steps_as_one(world, go):
    world.finish("run", "one", "--max_steps", "3")
    told = go(world, "run", "two", "--max_steps", "3", "--json").stdout
    assert json.loads(told)["steps"] == 3, "one object, of the main rank"
    losses = [
        [row["loss"] for row in deterministic_rows(world.root / out)] for out in ("one", "two")
    ]
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)
    # and one process goes on where two stopped
    world.finish("run", "two", "--max_steps", "4")


def test_weights_of_another_shape_are_refused_in_one_sentence(world):
    world.finish("train", "first", "--stage", STAGES[0], "--max_steps", "1")
    more = ("--init_from", str(world.root / "first"), "--set", "model.hidden_size=32")
    finished = world.finish("train", "second", "--stage", STAGES[0], *more, code=30)
    assert "embed_tokens.weight is (50257, 16) and should be (50257, 32)" in finished.stderr
    assert "Traceback" not in finished.stderr


def test_a_start_that_failed_binds_nothing(world):
    world.finish("train", "run", "--stage", STAGES[1], code=30)
    more = ("--stage", STAGES[0], "--max_steps", "1", "--set", "seed=9")
    world.finish("train", "run", *more)


def test_a_file_as_run_folder_is_refused(world):
    (world.root / "file").write_text("mine")
    for more in ((), ("--fresh",)):
        assert "is a file" in world.finish("run", "file", *more, code=30).stderr


def test_weights_that_explode_are_an_error_of_numerics_and_not_kept(world):
    more = ("--set", "training.learning_rate=1e30")
    finished = world.finish("run", "run", *more, *ADAMW, code=33)
    assert "not finite" in finished.stderr
    assert "--init_from" in finished.stderr
    assert world.exit_record("run")["code"] == 33


def test_products_of_eight_bits_train_and_are_told(world):
    """Emulated: this machine multiplies no FP8, but rounds to it as a card would."""
    eight = ("--set", "compute.fp8=blocks", "--set", "compute.fp8_emulate=true")
    finished = world.finish("run", "run", *eight, "--max_steps", "3", "--strict")
    active = next(line for line in finished.stderr.splitlines() if line.startswith("active: "))
    assert "FP8 blocks" in active
    world.finish("run", "plain", "--max_steps", "3")
    wanted, found = (
        [row["loss"] for row in deterministic_rows(world.root / name)] for name in ("plain", "run")
    )
    assert found == pytest.approx(wanted, rel=0.02)
    assert found != wanted


def test_documents_that_see_only_themselves_train_and_are_told(world):
    masked = ("--set", "compute.document_masking=true")
    finished = world.finish("run", "run", *masked, "--max_steps", "3", "--strict")
    active = next(line for line in finished.stderr.splitlines() if line.startswith("active: "))
    assert "document masking" in active
    world.finish("run", "plain", "--max_steps", "3")
    wanted, found = (
        [row["loss"] for row in deterministic_rows(world.root / name)] for name in ("plain", "run")
    )
    assert found == pytest.approx(wanted, rel=0.05)
    assert found != wanted


def test_packed_documents_train_are_told_and_go_on_after_a_stop(world):
    """With masked documents; stopped in the middle, the rest is bit for bit the unbroken run's."""
    packed = ("--set", "data.packing=best_fit", "--set", "compute.document_masking=true")
    finished = world.finish("run", "whole", *packed, "--max_steps", "4")
    assert re.search(
        r"stage\S+: documents are packed by best fit; \d+\.\d\d% of it is padding", finished.stderr
    )
    world.finish("run", "cut", *packed, "--max_steps", "2")
    world.finish("run", "cut", *packed, "--max_steps", "4")
    rows = [deterministic_rows(world.root / name) for name in ("whole", "cut")]
    assert rows[0] == rows[1]
    world.finish("run", "plain", *packed[2:], "--max_steps", "4")
    plain = [row["loss"] for row in deterministic_rows(world.root / "plain")]
    found = [row["loss"] for row in rows[0]]
    assert found == pytest.approx(plain, rel=0.1)
    assert found != plain
    refused = world.finish("run", "cut", *packed[2:], code=30)
    assert "data.packing" in refused.stderr


def test_eight_bits_without_a_card_for_them_are_one_sentence(world):
    refused = world.finish("run", "run", "--set", "compute.fp8=ffn", code=30)
    assert "compute.fp8=ffn needs a card of compute capability 8.9" in refused.stderr
    assert not (world.root / "run" / "data").exists(), "hours may go into it"


def test_strict_refuses_what_was_asked_for_and_is_not_active(world, monkeypatch):
    monkeypatch.setattr("platform.libc_ver", lambda: ("", ""))  # as on macOS
    words = ("--set", "compute.keep_freed_memory=true", "--max_steps", "1")
    assert "freed memory" in world.finish("run", "run", *words).stderr
    refused = world.finish("run", "strict", *words, "--strict", code=30)
    assert "asked for and not active: freed memory kept" in refused.stderr
    assert not (world.root / "strict" / "data").exists(), "hours may go into it"


def test_what_the_machine_cannot_do_is_refused_on_resume_before_data_comes_back(world, monkeypatch):
    world.finish("run", "run", "--max_steps", "1")
    shutil.rmtree(world.root / "run" / "data")
    known = (world.root / "run" / "environment.json").read_text()
    monkeypatch.setattr("torch.__version__", "1.0")
    refused = world.finish("run", "run", "--strict", code=30)
    assert "--strict: this start differs from the run's last one (torch: " in refused.stderr
    assert (world.root / "run" / "environment.json").read_text() == known
    refused = world.finish("run", "run", "--set", "compute.attention=cudnn", code=30)
    assert "compute.attention=cudnn needs" in refused.stderr
    assert not (world.root / "run" / "data").exists()


def test_a_complete_run_is_complete_on_any_machine(tmp_path_factory, monkeypatch):
    world = finished_world(tmp_path_factory, "complete")
    monkeypatch.setattr("torch.__version__", "1.0")
    unused(monkeypatch, world.root / "dev")
    assert "is complete already" in world.finish("run", "run", "--strict").stderr
    words = ("--strict", "--max_steps", "99")
    assert "is complete already" in world.finish("run", "run", *words).stderr


@pytest.mark.parametrize("more", [(), ("--max_steps", "99")])
def test_a_complete_run_with_a_cards_kernel_is_complete_without_a_card(tmp_path_factory, more):
    world = finished_world(tmp_path_factory, "kernel")
    config = world.root / "run" / "config.yaml"
    text, found = re.subn("(?m)^( *attention:) .*$", r"\1 efficient", config.read_text())
    assert found == 1
    config.write_text(text)
    words = ("--set", "compute.attention=efficient", *more)
    assert "is complete already" in world.finish("run", "run", *words).stderr
    assert config.read_text() == text
    shutil.rmtree(world.root / "run" / "data")
    assert "is complete already" in world.finish("run", "run", *words).stderr
    shutil.rmtree(world.checkpoints("run")[-1])
    (world.root / "run" / "exit.json").unlink()
    told = world.finish("run", "run", *words, code=30).stderr
    assert "compute.attention=efficient needs a CUDA card" in told


def test_a_run_whose_card_is_gone_goes_on_on_the_cpu_only_when_asked(world, monkeypatch):
    """Started again by its supervisor it would train there for weeks, beside cards that cost."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    world.finish("run", "run", "--max_steps", "1")
    environment = world.root / "run" / "environment.json"
    told = json.loads(environment.read_text())
    environment.write_text(json.dumps({**told, "device_type": "cuda"}))
    finished = world.finish("run", "run", "--max_steps", "2", code=11)
    assert "torch finds none here" in finished.stderr
    assert world.exit_record("run")["code"] == 11
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    world.finish("run", "run", "--max_steps", "2")
    assert last_step(world.root / "run" / "metrics.jsonl") == 2


@pytest.mark.parametrize(("said", "code"), [(TOO_OLD, 30), (NOT_UP, 11)])
def test_a_card_that_torch_does_not_use_stops_a_run_but_one_that_a_cpu_began(
    world, tmp_path, monkeypatch, said, code
):
    """By what CUDA says of it, whatever the run's last start had."""
    unused(monkeypatch, tmp_path / "dev", said=said)
    refused = world.finish("run", "run", "--max_steps", "1", code=code)
    assert f"does not use it: {said}" in refused.stderr
    assert not (world.root / "run" / "data").exists(), "hours may go into it"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    world.finish("run", "run", "--max_steps", "1")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    world.finish("run", "run", "--max_steps", "2")
    environment = world.root / "run" / "environment.json"
    told = json.loads(environment.read_text())
    environment.write_text(json.dumps({**told, "device_type": "cuda"}))
    assert said in world.finish("run", "run", "--max_steps", "3", code=code).stderr


def test_engine_and_ranks_are_not_judged_by_the_cpu_beside_a_card_that_is_not_up(
    world, tmp_path, monkeypatch
):
    """30, of DeepSpeed's precision on a card, would end the run; ranks by gloo would meet none."""
    unused(monkeypatch, tmp_path / "dev", said=NOT_UP)
    monkeypatch.setattr(choices, "cpu_flags", frozenset)
    settings = tmp_path / "deepspeed.json"
    settings.write_text('{"bf16": {"enabled": true}}')
    by_deepspeed = (*ADAMW, "--set", "compute.precision=auto", "--deepspeed", str(settings))
    finished = world.finish("train", "run", "--stage", STAGES[0], *by_deepspeed, code=11)
    assert NOT_UP in finished.stderr
    assert NOT_UP in world.exit_record("run")["reason"]
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert NOT_UP in world.finish("run", "run", code=11).stderr
    (tmp_path / "dev" / "nvidia0").unlink()
    (world.root / "run" / "environment.json").write_text('{"device_type": "cuda"}')
    note = tmp_path / "note"
    monkeypatch.setenv(supervised.VARIABLE, str(note))
    assert "torch finds none here" in world.finish("run", "run", code=11).stderr
    assert "torch finds none here" in world.exit_record("run")["reason"]
    told = supervised.read_note(note)
    assert (told["run_folder"], told["code"]) == (str((world.root / "run").resolve()), 11)
    monkeypatch.setenv("RANK", "1")
    (world.root / "run" / "exit.json").unlink()
    world.finish("run", "run", code=11)
    assert not (world.root / "run" / "exit.json").exists(), "another rank's is no end of the run"


def test_a_lost_card_of_ranks_asks_of_a_folder_what_any_start_does(world, tmp_path, monkeypatch):
    """Told of it by then, a supervisor's next start would no longer ask whether it is empty."""
    unused(monkeypatch, tmp_path / "dev", said=NOT_UP)
    monkeypatch.setenv("WORLD_SIZE", "2")
    run = world.root / "run"
    run.mkdir()
    (run / "letter.txt").write_text("dear Ada")
    assert "is not empty" in world.finish("run", "run", "--fresh", code=30).stderr
    assert [path.name for path in run.iterdir()] == ["letter.txt"]


def test_one_card_too_few_for_as_many_ranks_as_before_is_a_failed_card(world, monkeypatch):
    """30, of too many ranks, would end a run that waits for its card."""
    world.finish("run", "run", "--max_steps", "1")
    environment = world.root / "run" / "environment.json"
    told = json.loads(environment.read_text())
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 7)
    monkeypatch.setenv("WORLD_SIZE", "8")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "8")
    # The main process has a card, and is the one that is heard.
    for rank, size, code in ((0, 8, 11), (7, 8, 11), (7, 4, 30)):
        monkeypatch.setenv("LOCAL_RANK", str(rank))
        environment.write_text(json.dumps({**told, "device_type": "cuda", "world_size": size}))
        refused = world.finish("run", "run", code=code).stderr
        assert ("did a card fail" in refused) == (code == 11)
        assert "7 CUDA card(s)" in refused
