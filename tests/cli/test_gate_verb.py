"""`yxanul gate`: what was decided, decided again, and one sentence for what cannot be."""

import fcntl
import json
import os
import re
import shutil
from dataclasses import replace

import pytest
import yaml

from tests.sentences import assert_one_sentence
from tests.train.world import BATCH_TOKENS, STAGES, STEPS, World, finished_world
from yxanul.cli.main import main
from yxanul.config.gate import ForecastConfig, GateConfig
from yxanul.config.load import dump_config
from yxanul.config.schema import RunConfig
from yxanul.curriculum.checks.level import forecast_bpb
from yxanul.curriculum.course import read_frozen_config
from yxanul.curriculum.evidence import gather_evidence
from yxanul.curriculum.recompute import read_asked
from yxanul.runfolder.layout import RunFolder
from yxanul.runfolder.verdicts import all_verdicts, read_verdicts


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return finished_world(tmp_path_factory, "gates")


@pytest.fixture
def gate(capsys):
    def run(*words: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as left:
            main(["gate", *(str(word) for word in words)])
        captured = capsys.readouterr()
        return left.value.code, captured.out, captured.err

    return run


def copy_of(world: World, name: str):
    copy = world.root / name
    shutil.rmtree(copy, ignore_errors=True)
    return shutil.copytree(world.root / "run", copy)


def test_a_gate_is_computed_again_from_what_is_stored(world, gate):
    code, out, _ = gate(world.root / "run", "--json")
    told = json.loads(out)
    assert code == 0
    assert (told["stage"], told["verdict"], told["agrees_with_stored"]) == (STAGES[1], "pass", True)
    assert [g["stage"] for g in told["gates"]] == list(STAGES)
    stored = [json.loads(x) for x in (world.root / "run" / "gates.jsonl").read_text().splitlines()]
    for one in told["gates"]:
        rows = [r for r in stored if r["row"] == "check" and r["stage"] == one["stage"]]
        for check, row in zip(one["checks"], rows, strict=True):
            assert check == {key: row[key] for key in check}


def test_one_stage_can_be_named_and_people_get_a_table(world, gate):
    code, out, _ = gate(world.root / "run", "--stage", STAGES[0])
    assert code == 0
    assert f"{STAGES[0]}, attempt 0: pass (as stored)" in out
    assert "G0" in out
    assert STAGES[1] not in out


def test_a_changed_score_changes_the_verdict_and_that_is_said(world, gate):
    run = copy_of(world, "changed")
    path = next((run / "scores").glob(f"step-00000016-a0-{STAGES[1]}.json"))
    score = json.loads(path.read_text())
    path.write_text(json.dumps({**score, "nats": [3 * x for x in score["nats"]]}))
    code, out, err = gate(run, "--stage", STAGES[1], "--json")
    told = json.loads(out)
    assert code == 31
    assert "does not follow from what is stored" in err
    assert (told["verdict"], told["agrees_with_stored"]) == ("stop", False)
    assert "STORED WAS pass" in gate(run, "--stage", STAGES[1])[1]


def test_rows_that_are_not_written_at_every_step_are_a_sample_of_the_stage(world, gate):
    run = copy_of(world, "sampled")
    lines = (run / "metrics.jsonl").read_text().splitlines(keepends=True)
    (run / "metrics.jsonl").write_text("".join(lines[1::2]))
    told = json.loads(gate(run, "--stage", STAGES[1], "--json")[1])
    why = next(check["why"] for check in told["gates"][0]["checks"] if check["id"] == "G1")
    assert why == f"0 of 4 logged steps are bad, about 0.00% of the stage's {STEPS}"


def test_what_its_rows_tell_of_skipped_steps_is_in_a_gates_evidence(world):
    """A loss that is finite and a gradient that is not: no weight was moved all the same."""
    run = copy_of(world, "skipping")
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    rows[-2] |= {"grad_norm": None, "skipped": "the gradient norm (inf) is not finite"}
    rows[-3] |= {"skipped": "the loss 9 is above 4, where 3 was usual"}
    (run / "metrics.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    plan, asked = read_asked(RunFolder(run), all_verdicts(RunFolder(run))[-1])
    evidence = gather_evidence(RunFolder(run), plan, asked=asked)
    assert (evidence.skipped, evidence.late) == (frozenset({STEPS - 2, STEPS - 3}), 1)


def test_the_beginning_of_a_stage_with_a_ramp_lies_behind_it(world):
    folder = RunFolder(world.root / "run")
    for row in all_verdicts(folder):
        plan, asked = read_asked(folder, row)
        data = plan.config.data.model_copy(update={"ramp_fraction": 0.5})
        ramped = replace(plan, config=plan.config.model_copy(update={"data": data}))
        assert gather_evidence(folder, plan, asked=asked).begins == 0
        # the first stage has nothing to replay
        wanted = STEPS // 2 if plan.index else 0
        assert gather_evidence(folder, ramped, asked=asked).begins == wanted


def assert_refused(answer: tuple[int, str, str], code: int, *parts: str) -> None:
    assert answer[0] == code
    assert_one_sentence(answer[2], *parts)


def test_a_gate_without_scores_is_one_sentence(world, gate):
    run = copy_of(world, "without")
    for path in (run / "scores").glob("step-00000016-*"):
        path.unlink()
    assert_refused(gate(run), 30, "no score", STAGES[1], "step 16")


def test_a_gate_that_was_not_asked_is_one_sentence(world, gate):
    run = copy_of(world, "unasked")
    (run / "gates.jsonl").unlink()
    assert_refused(gate(run), 30, "no gate has been asked yet")
    assert_refused(gate(world.root / "run", "--stage", "stage9"), 30, "stage9", STAGES[0])


def test_what_is_no_run_folder_is_one_sentence(world, gate):
    for place in (world.root, world.root / "nowhere", world.root / "run" / "gates.jsonl"):
        assert_refused(gate(place), 30, "name ", "run")


def test_the_gate_of_a_run_that_prepares_its_data_is_asked_for_later(tmp_path, gate):
    with (tmp_path / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert_refused(gate(tmp_path), 30, "still prepares its data")
        assert_refused(gate(tmp_path, "--forecast"), 30, "still prepares its data")


def test_damage_is_named(world, gate):
    run = copy_of(world, "damaged")
    score = next((run / "scores").glob("step-00000008-a0-*"))
    score.write_text("{")
    assert_refused(gate(run), 31, score.name)
    run = copy_of(world, "damaged")
    (run / "config.yaml").write_text((run / "config.yaml").read_text().replace(STAGES[1], "other"))
    assert_refused(gate(run), 31, "does not fit")


@pytest.fixture(scope="module")
def curve(tmp_path_factory):
    """A finished run whose scores are dense enough for a curve."""
    world = World.create(tmp_path_factory.mktemp("curves"))
    world.finish("run", "run", "--set", "evaluation.every_fraction=0.125")
    return world


def test_a_forecast_fits_the_stage_files_of_the_next_run(curve, gate):
    code, out, _ = gate(curve.root / "run", "--forecast")
    assert code == 0
    stages = [yaml.safe_load(f"# {part}") for part in out.split("# ")[1:]]
    for stage, settings in zip(STAGES, stages, strict=True):
        assert set(GateConfig(**settings["gate"]).level.forecast) == {stage}
    code, out, _ = gate(curve.root / "run", "--forecast", "--json", "--stage", STAGES[1])
    assert code == 0
    assert json.loads(out)["levels"] == {STAGES[1]: stages[1]["gate"]["level"]}


@pytest.mark.parametrize(("worse", "result"), [(1.0, "pass"), (1.05, "warn"), (1.09, "fail")])
def test_a_later_stage_is_held_to_what_the_earlier_run_reached_there(curve, gate, worse, result):
    run, stage = copy_of(curve, "steep"), STAGES[1]
    true = {step: 0.5 + 0.7 / step for step in range(1, STEPS + 1)}  # by steps of the stage
    for step, bpb in true.items():
        path = run / "scores" / f"step-{STEPS + step:08d}-a0-{stage}.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"bpb": bpb}))
    level = json.loads(gate(run, "--forecast", "--stage", stage, "--json")[1])["levels"][stage]
    fitted = ForecastConfig(**level["forecast"][stage])
    for step, bpb in true.items():
        assert forecast_bpb(fitted, step * BATCH_TOKENS) == pytest.approx(bpb, rel=0.01)
    settings = read_frozen_config(RunFolder(run)).model_dump()
    settings["stages"][1]["gate"]["level"] = level
    (run / "config.yaml").write_text(dump_config(RunConfig.model_validate(settings)))
    path.write_text(json.dumps(json.loads(path.read_text()) | {"bpb": bpb * worse}))
    checks = json.loads(gate(run, "--stage", stage, "--json")[1])["checks"]
    (found,) = (check for check in checks if check["id"] == "G5")
    assert found["result"] == result
    assert found["value"] == pytest.approx(worse - 1, abs=1e-6)
    assert f"forecast {bpb:.4f} after 1,024 tokens of the stage" in found["why"]


def test_what_a_forecast_cannot_be_made_of_is_one_sentence(world, curve, gate):
    code, _, err = gate(world.root / "run", "--forecast")
    assert (code, "smaller evaluation.every_fraction" in err) == (30, True)
    code, _, err = gate(curve.root / "run", "--forecast", "--stage", "stage9")
    assert (code, "stage9 has not ended" in err) == (30, True)
    damaged = copy_of(curve, "damaged")
    rows = [json.loads(line) for line in (damaged / "gates.jsonl").read_text().splitlines()]
    for row in rows:
        row.pop("evidence", None)
    (damaged / "gates.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    code, _, err = gate(damaged, "--forecast")
    assert (code, "does not fit" in err) == (31, True)


@pytest.mark.parametrize(
    "words",
    [
        ("--forecast", "--override", "pass"),
        ("--reason", "the margin"),
        ("--forecast", "--reason", "x"),
    ],
)
def test_options_that_would_do_nothing_together_are_refused(world, gate, words):
    before = (world.root / "run" / "gates.jsonl").read_text()
    code, out, err = gate(world.root / "run", "--stage", STAGES[1], *words)
    assert (code, out) == (30, "")
    assert "decides nothing" in err
    assert (world.root / "run" / "gates.jsonl").read_text() == before


def test_a_loss_that_was_not_finite_is_judged_again_as_it_was(world, gate):
    """JSON has no NaN: it is stored as null."""
    run = copy_of(world, "nan")
    text = (run / "gates.jsonl").read_text()
    (run / "gates.jsonl").write_text(re.sub(r'"(loss|loss_again)": [0-9.]+', r'"\1": null', text))
    code, _, err = gate(run)
    assert (code, "does not follow from what is stored" in err) == (31, True)


def test_a_user_without_a_name_may_decide_too(world, gate, monkeypatch):
    """In a container a process often runs under a number that no one gave a name to."""
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "getuid", lambda: 54321)
    run = copy_of(world, "nameless")
    code, out, _ = gate(
        run, "--stage", STAGES[1], "--override", "rollback", "--reason", "a trial", "--json"
    )
    assert code == 0
    assert json.loads(out)["override"]["by"] == "user 54321"


def test_a_reason_with_brackets_is_shown_as_it_was_written(world, gate):
    run, reason = copy_of(world, "brackets"), "seen [/b] and [red]in[/red] the :tada: curve"
    words = ("--stage", STAGES[1], "--override", "rollback", "--reason", reason)
    code, out, _ = gate(run, *words)
    assert (code, reason in " ".join(out.split())) == (0, True)


def test_a_table_fits_80_columns_and_is_explained(world, gate, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    code, out, _ = gate(world.root / "run")
    assert code == 0
    assert "…" not in out
    assert "G0 integrity: pass, " in out
    assert "[bounds]" in out
    assert "less is better" in out


def lose(run, *patterns: str) -> None:
    for pattern in patterns:
        for path in (run / "scores").glob(pattern):
            path.unlink()


def test_a_score_of_a_stages_beginning_that_is_gone_is_no_fault_of_the_verdict(world, gate):
    run = copy_of(world, "beginning")
    lose(run, f"step-{STEPS:08d}-a0-{STAGES[1]}.json")
    words = ("--stage", STAGES[1])
    assert_refused(
        gate(run, *words), 30, f"no score of {STAGES[1]} at step {STEPS}", "began", "bring the file"
    )
    # It may be gone for good: a person may decide all the same.
    words += ("--override", "rollback", "--reason", "a trial")
    code, out, err = gate(run, *words, "--json")
    told = json.loads(out)
    assert (code, told["verdict"], told["agrees_with_stored"]) == (0, "pass", None)
    assert {check["id"] for check in told["checks"]} >= {"G0", "G2", "G3"}
    assert told["override"]["verdict"] == "rollback"
    assert "the verdict was not computed again: " in err
    assert read_verdicts(RunFolder(run))[STAGES[1]]["verdict"] == "rollback"
    code, out, _ = gate(run, *words)
    assert (code, "pass (as stored, not computed again)" in out) == (0, True)


def test_a_score_on_a_stages_way_that_is_gone_is_named_and_the_verdict_not_doubted(curve, gate):
    run, step = copy_of(curve, "on-its-way"), STEPS + STEPS // 2
    lose(run, f"step-{step:08d}-a0-{STAGES[1]}.json")
    words = (run, "--stage", STAGES[1])
    assert_refused(gate(*words), 30, f"no score of {STAGES[1]} at step {step}", "on its way")
    for row in (rows := all_verdicts(RunFolder(run))):
        del row["evidence"]["scored"]  # as an earlier version wrote them
    (run / "gates.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert gate(*words)[0] == 0


def test_a_decision_that_cannot_be_is_told_before_scores_that_are_gone(world, gate):
    run = copy_of(world, "senseless")
    lose(run, f"step-{STEPS:08d}-a0-{STAGES[1]}.json")
    before = (run / "gates.jsonl").read_text()
    words = (run, "--stage", STAGES[1], "--override")
    assert_refused(gate(*words, "stop", "--reason", "a trial"), 30, "it takes pass")
    assert_refused(gate(*words, "pass"), 30, "needs --reason")
    assert (run / "gates.jsonl").read_text() == before


def test_damage_leaves_no_decision_behind(world, gate):
    run = copy_of(world, "undecided")
    next((run / "scores").glob(f"step-{2 * STEPS:08d}-a0-*")).write_text("{")
    before = (run / "gates.jsonl").read_text()
    words = ("--stage", STAGES[1], "--override", "pass", "--reason", "a trial")
    assert gate(run, *words)[0] == 31
    assert (run / "gates.jsonl").read_text() == before


def test_evidence_that_no_run_writes_is_named_as_damage(world, gate):
    run = copy_of(world, "no-evidence")
    rows = [json.loads(line) for line in (run / "gates.jsonl").read_text().splitlines()]
    *before, last = rows
    assert last["row"] == "verdict"
    damages = ({"scored": None}, {"scored": [1]}, {"scored": ["none"]}, {"failures": ["none"]})
    for damage in (*damages, {"integrity": [1]}, {"integrity": ["none"]}, {"spending": [1]}):
        wrong = [*before, last | {"evidence": last["evidence"] | damage}]
        (run / "gates.jsonl").write_text("".join(json.dumps(row) + "\n" for row in wrong))
        assert_refused(gate(run), 31, "does not fit")


def test_a_score_that_the_gate_had_missed_itself_is_not_asked_for(world, gate):
    """Its file had gone before the gate was asked: the gate said stop, and a person may decide."""
    run = copy_of(world, "missed")
    lose(run, f"step-{2 * STEPS:08d}-a0-{STAGES[1]}.json")
    stored = [json.loads(line) for line in (run / "gates.jsonl").read_text().splitlines()]
    missed = {"result": "not run", "action": "stop", "margin": None, "value": None}
    for row in stored:
        if row["stage"] == STAGES[1] and row.get("subject") == STAGES[1]:
            row |= missed | {"why": f"{STAGES[1]} has no score at the stage's end"}
        if row["stage"] == STAGES[1] and row["row"] == "verdict":
            row["verdict"] = "stop"
            row["evidence"]["scored"][STAGES[1]].remove(2 * STEPS)
    (run / "gates.jsonl").write_text("".join(json.dumps(row) + "\n" for row in stored))
    words = ("--stage", STAGES[1])
    code, out, _ = gate(run, *words, "--json")
    assert (code, json.loads(out)["verdict"]) == (0, "stop")
    code, out, err = gate(run, *words, "--override", "pass", "--reason", "a trial", "--json")
    assert (code, json.loads(out)["override"]["verdict"]) == (0, "pass")
    assert f"{STAGES[1]}: stop -> pass" in err


def rewritten(run, change) -> list[dict]:
    """Write the rows of a run's gates that `change` makes of them; return those."""
    stored = [json.loads(line) for line in (run / "gates.jsonl").read_text().splitlines()]
    rows = change(stored)
    (run / "gates.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return rows


def test_a_person_decides_about_a_verdict_that_does_not_follow_and_the_run_may_start(world, gate):
    run = copy_of(world, "older")
    rewritten(run, lambda rows: [*rows[:-1], {**rows[-1], "verdict": "stop"}])
    words = (run, "--stage", STAGES[1])
    assert gate(*words)[0] == 31
    code, out, err = gate(*words, "--override", "pass", "--reason", "a trial", "--json")
    told = json.loads(out)
    assert (code, told["agrees_with_stored"], told["override"]["verdict"]) == (0, False, "pass")
    assert "does not follow from what is stored" in err
    assert f"{STAGES[1]}: stop -> pass" in err


def test_the_first_object_is_no_answer_to_whether_a_decay_may_begin(world, gate):
    """A stage in its decay has a plateau row, and its gate has not been asked."""

    def in_its_decay(rows: list[dict]) -> list[dict]:
        plateau = {**rows[-1], "row": "plateau", "step": 2 * STEPS - 2}
        return [*(row for row in rows if row["stage"] == STAGES[0]), plateau]

    run = copy_of(world, "decaying")
    rewritten(run, in_its_decay)
    told = json.loads(gate(run, "--json")[1])
    assert (told["stage"], told["asked"], told["verdict"]) == (STAGES[0], "end", "pass")
    assert [(one["stage"], one["asked"]) for one in told["gates"]] == [
        (STAGES[0], "end"),
        (STAGES[1], "plateau"),
    ]
    told = json.loads(gate(run, "--stage", STAGES[1], "--json")[1])
    assert (told["stage"], told["asked"], told["verdict"]) == (STAGES[1], "plateau", None)
