"""`yxanul preflight` as a user starts it."""

import json
import shutil
import tempfile
from types import SimpleNamespace

import fsspec
import pytest
from fsspec.implementations.local import LocalFileSystem

from tests.hardware.cards import dying, foreign
from tests.preflight.mirrors import run_at
from tests.train.world import STAGES, World
from yxanul.config.load import dump_config, load_config
from yxanul.curriculum.stages import plan_stages
from yxanul.errors import InfrastructureError
from yxanul.plan.storage import kept_checkpoint_bytes
from yxanul.preflight import flight, space
from yxanul.runfolder.layout import RunFolder
from yxanul.runfolder.lineage import AttemptStart, begin_attempt
from yxanul.runfolder.rows import append_row
from yxanul.runfolder.verdicts import write_decision

NAMES = ["features", "compile", "disk", "memory", "data: stage1_tales", "data: stage2_sums"]
NAMES += ["mirror", "step", "links", "cost"]


@pytest.fixture
def words(tmp_path, monkeypatch):
    monkeypatch.setattr(space, "_TRIAL_BYTES", space._BLOCK_BYTES)
    monkeypatch.setattr(flight, "_MEASURING_S", 600.0)  # a busy machine is no wrong one
    World.create(tmp_path)
    folders = ("--config_dir", tmp_path / "configs", "--data", tmp_path / "texts")
    return ("preflight", *folders, "--out", tmp_path / "run")


def test_a_plan_over_the_budget_leaves_with_20_and_one_object(call, words, tmp_path):
    mirror = ("--set", f"checkpoint.mirror={tmp_path / 'mirror'}")
    price = ("--usd_per_hour", "1000000", "--budget_usd", "0.0001")
    config = load_config(tmp_path / "configs", overrides=["data.source=texts"])
    last = plan_stages(config)[-1]
    there = run_at(tmp_path / "mirror")  # it has begun its last stage
    begin_attempt(there.lineage, AttemptStart(0, 0, None, "a test"))
    place = {"step": last.first_step + 1, "attempt": 0, "stage": last.name, "stage_step": 1}
    append_row(there.metrics, place)
    code, out, err = call(*words, *mirror, *price, "--json")
    told = json.loads(out)
    assert code == told["exit_code"] == 20
    assert len(out.splitlines()) == 1
    assert told["verdict"] == "stop"
    assert "even at best" in told["why"]
    checks = {check["name"]: check for check in told["checks"]}
    assert list(checks) == NAMES
    assert checks["mirror"]["state"] == checks["compile"]["state"] == "pass"
    batch = last.config.training.batch_tokens
    assert checks["cost"]["value"]["tokens_left"] == last.tokens - batch
    left = config.model_copy(update={"stages": config.stages[-1:]})
    needed = kept_checkpoint_bytes(left, is_lengthened=False, done_tokens=batch)
    assert checks["disk"]["value"]["needed_bytes"] == needed
    assert needed < kept_checkpoint_bytes(config, is_lengthened=False)
    assert err.startswith("preflight: mirror\npreflight: features")
    assert "benchmarks, 45 s at most" in err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (("--usd_per_hour", "-12"), "--usd_per_hour -12 is not an amount of dollars"),
        (("--budget_usd", "nan", "--usd_per_hour", "1"), "--budget_usd nan is not an amount"),
        (("--budget_usd", "200"), "--budget_usd needs --usd_per_hour"),
        (("--set", "budget.usd=-1"), "budget.usd"),
        (
            ("--budget_usd", "9", *("--set", "budget.usd_per_hour=1", "--set", "budget.usd=8")),
            "--budget_usd and --set budget.usd=8 set the same",
        ),
        (
            ("--usd_per_hour", "1", "--set", "budget.usd_per_hour=2"),
            "--usd_per_hour and --set budget.usd_per_hour=2 set the same",
        ),
        (("--nproc", "3"), "3 processes cannot share"),
        (("--nproc", "0"), "--nproc"),
        (("--data", "nowhere"), "nowhere does not exist"),
    ],
)
def test_a_wrong_flag_is_one_sentence_before_anything_is_measured(call, words, flags, sentence):
    code, _, err = call(*words, *flags)
    assert code == 30
    assert len(err.strip().splitlines()) == 1, err
    assert sentence in err


def test_more_processes_than_cards_are_refused_before_anything_is_measured(
    call, words, monkeypatch
):
    """As of a run of two machines, whose preflight said that torchrun was started wrongly."""
    foreign(monkeypatch)
    code, _, err = call(*words, "--nproc", "2")
    assert code == 30
    assert len(err.strip().splitlines()) == 1, err
    assert "--nproc 2: there are 1 CUDA card(s) here" in err


@pytest.mark.parametrize(("had", "code"), [("2", 11), ("4", 30)])
def test_a_card_that_a_run_has_lost_is_told_as_by_the_run(
    call, words, tmp_path, monkeypatch, had, code
):
    """30 would end what shall be tried again when the card is back."""
    foreign(monkeypatch)
    (tmp_path / "run").mkdir()
    last = f'{{"device_type": "cuda", "world_size": {had}}}'
    (tmp_path / "run" / "environment.json").write_text(last)
    left, _, err = call(*words, "--nproc", "2")
    assert left == code
    assert ("did a card fail" in err) == (code == 11)


def test_what_is_wrong_with_the_machine_hides_no_finding(call, words, tmp_path, monkeypatch):
    """Prepared data is damaged, benchmarks lack, and there is no room for temporary files."""
    manifest = tmp_path / "run" / "data" / "manifest.json"
    manifest.parent.mkdir(parents=True)
    manifest.write_text("{")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
    scored = ("--bench_dir", tmp_path / "gone", "--set", "evaluation.skills=[{task: hellaswag}]")
    code, out, _ = call(*words, *scored, "--set", "compute.compile=off", "--json")
    told = json.loads(out)
    assert (code, told["exit_code"], told["verdict"]) == (31, 31, "stop")
    checks = {check["name"]: check for check in told["checks"]}
    scores = "benchmark: hellaswag"
    assert list(checks) == ["features", "disk", "memory", "data", scores, *NAMES[-4:]]
    failed = {name: check["why"] for name, check in checks.items() if check["state"] == "fail"}
    assert failed.keys() == {"data", scores, "step"}
    assert str(manifest) in failed["data"]
    assert f"{tmp_path / 'gone'}" in failed[scores]
    assert f"{tmp_path / 'gone'}" in failed["step"]


def test_a_mirror_that_refuses_is_told_once_and_not_of_each_benchmark(call, words):
    wrong = ("--set", "checkpoint.mirror=nosuch://bucket/run")
    scored = ("--set", "evaluation.skills=[{task: hellaswag}, {task: triviaqa}]")
    code, out, _ = call(*words, *wrong, *scored, "--set", "compute.compile=off", "--json")
    checks = {check["name"]: check for check in json.loads(out)["checks"]}
    assert code == 30
    failed = [name for name, check in checks.items() if check["state"] == "fail"]
    assert failed == ["mirror"]
    assert "of the whole run" in checks["disk"]["why"]
    assert checks["benchmark"]["state"] == "warn"
    assert "the mirror may keep" in checks["benchmark"]["why"]


@pytest.mark.parametrize(
    ("is_at_the_mirror", "damaged"), [(False, "metrics"), (True, "metrics"), (False, "lineage")]
)
def test_rows_that_nobody_can_read_hide_neither_disk_nor_cost(
    call, words, tmp_path, monkeypatch, is_at_the_mirror, damaged
):
    """Both are told of the whole run, and are no failure: the rest of it may be little."""
    folder = run_at(tmp_path / "mirror") if is_at_the_mirror else RunFolder(tmp_path / "run")
    folder.root.mkdir(exist_ok=True)
    begin_attempt(folder.lineage, AttemptStart(0, 0, None, "a test"))
    append_row(folder.metrics, {"step": 1, "attempt": 0, "stage": None})
    if damaged == "lineage":
        append_row(folder.lineage, {"event": "attempt", "attempt": "the second"})
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=0))
    mirror = ("--set", f"checkpoint.mirror={tmp_path / 'mirror'}")
    price = ("--usd_per_hour", "1000000", "--budget_usd", "0.0001")
    code, out, _ = call(*words, *mirror, *price, "--set", "compute.compile=off", "--json")
    checks = {check["name"]: check for check in json.loads(out)["checks"]}
    assert code == 31
    assert [name for name, check in checks.items() if check["state"] == "fail"] == ["progress"]
    assert str(getattr(folder, damaged)) in checks["progress"]["why"]
    for name in ("disk", "cost"):
        assert checks[name]["state"] == "warn"
        assert "of the whole run" in checks[name]["why"]
    config = load_config(tmp_path / "configs", overrides=["data.source=texts"])
    whole = kept_checkpoint_bytes(config, is_lengthened=False)
    assert checks["disk"]["value"]["needed_bytes"] == whole
    assert checks["cost"]["value"]["tokens_left"] == sum(p.tokens for p in plan_stages(config))


def measured_nothing(*_, **__):
    raise InfrastructureError("a card failed")


def test_a_run_that_goes_on_is_asked_about_its_settings_and_not_about_closed_stages(
    call, words, tmp_path, monkeypatch
):
    """Three processes cannot share its first stage; its second they could, but it had another."""
    monkeypatch.setattr(flight, "measure_apart", measured_nothing)
    config = load_config(tmp_path / "configs", overrides=["data.source=texts"])
    folder = run_at(tmp_path / "mirror")
    begin_attempt(folder.lineage, AttemptStart(0, 0, None, "a test"))
    folder.config.write_text(dump_config(config))
    first, last = config.stages
    shared = ("--nproc", "3", "--set", f"{last.name}.training.batch_tokens=192")
    shared += ("--set", f"checkpoint.mirror={tmp_path / 'mirror'}")
    code, _, err = call(*words, *shared)
    assert code == 30
    assert f"{first.name}: 3 processes cannot share" in err
    scores = {"why": "a test", "bpb_before": None, "bpb_after": None, "verdict": "pass"}
    place = {"stage": first.name, "attempt": 0, "step": plan_stages(config)[0].last_step}
    write_decision(folder, {**place, **scores}, checks=[])
    code, out, _ = call(*words, *shared, "--json")
    told = json.loads(out)
    assert (code, told["verdict"]) == (30, "stop")
    assert told["why"].startswith("do not begin: settings: ")
    assert f"{last.name}.training.batch_tokens: 128 -> 192" in told["why"]
    failed = [check["name"] for check in told["checks"] if check["state"] == "fail"]
    assert failed == ["settings", "step"]


class Deaf(LocalFileSystem):
    """A storage that does not answer."""

    protocol = "deaf"

    def info(self, path, **kwargs):
        raise OSError(503, "Busy")


@pytest.mark.parametrize(
    ("batch", "state", "failed", "code"),
    [(128, "fail", ["processes", "mirror", "step"], 30), (192, "warn", ["mirror", "step"], 11)],
)
def test_processes_that_cannot_share_a_step_are_told_where_the_mirror_fails(
    call, words, monkeypatch, batch, state, failed, code
):
    """Which stages are still trained is not known then: of one of them it may be no matter."""
    monkeypatch.setattr(flight, "measure_apart", measured_nothing)
    fsspec.register_implementation("deaf", Deaf, clobber=True)
    last = ("--set", f"{STAGES[-1]}.training.batch_tokens={batch}")
    mirror = ("--set", "checkpoint.mirror=deaf:///mirror")
    left, out, _ = call(*words, "--nproc", "3", *last, *mirror, "--json")
    checks = {check["name"]: check for check in json.loads(out)["checks"]}
    assert left == code
    assert [name for name, check in checks.items() if check["state"] == "fail"] == failed
    assert checks["processes"]["state"] == state
    assert checks["processes"]["why"].startswith(f"{STAGES[0]}: 3 processes cannot share")


def test_a_card_that_does_not_start_is_a_finding_among_the_others(call, words, monkeypatch):
    dying(monkeypatch)
    monkeypatch.setattr(flight, "measure_apart", measured_nothing)
    code, out, _ = call(*words, "--set", "compute.precision=auto", "--json")
    told = json.loads(out)
    assert (code, told["verdict"]) == (11, "stop")
    checks = {check["name"]: check for check in told["checks"]}
    assert list(checks) == NAMES
    assert "CUDA driver initialization failed" in checks["features"]["why"]
    assert checks["memory"]["state"] == checks["disk"]["state"] == "pass"
