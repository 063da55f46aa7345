"""What an export refuses first, what it reads beside a run that trains, and what ends it."""

import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.evaluate.runs import add_checkpoint, flip_bit, write_run_with_data
from tests.export.subjects import run_with_checkpoints, subject
from tests.hardware.cards import dying
from yxanul.data.prepared.manifest import load_manifest, write_manifest
from yxanul.errors import CorruptCheckpointError, UsageError
from yxanul.export.average import average, average_of, wanted_checkpoints
from yxanul.export.exporting import export_folder
from yxanul.runfolder.checkpoints import Weights, load_weights
from yxanul.runfolder.layout import RunFolder
from yxanul.runfolder.rows import append_row
from yxanul.runfolder.saving import purge_checkpoints


def test_what_needs_no_model_is_refused_before_one_is_opened(tmp_path, call, monkeypatch):
    (tmp_path / "there").write_text("mine")
    new = tmp_path / "new"
    for words, told in [
        (("--to", "hf", "--out", tmp_path / "there"), "there already"),
        (("--to", "hf", "--type", "q8_0", "--out", new), "f32, bf16, f16"),
        (("--to", "hf", "--out", new), "yxanul[export]"),
        (("--to", "gguf", "--out", new), "yxanul[export]"),
    ]:
        if "yxanul" in told:
            monkeypatch.setitem(sys.modules, "transformers", None)
            monkeypatch.setitem(sys.modules, "gguf", None)
        code, _, err = call("export", tmp_path / "no-model", *words)
        assert (code, told in err) == (30, True), (words, err)


def test_an_export_leaves_a_card_alone_whether_full_or_broken(tmp_path, call, monkeypatch):
    run = run_with_checkpoints(tmp_path / "run")
    dying(monkeypatch)
    code, _, err = call("export", run.root, "--to", "gguf", "--out", tmp_path / "out")
    assert code == 0, err


def of_another_version(data: Path) -> None:
    manifest = json.loads((data / "manifest.json").read_text())
    (data / "manifest.json").write_text(json.dumps({**manifest, "format_version": 1}))


def damaged(data: Path) -> None:
    (data / "sums" / "validation.documents.jsonl").write_text("{\n")


def damaged_manifest(data: Path) -> None:
    (data / "manifest.json").write_text("{}")


def without_the_last_stage(data: Path) -> None:
    manifest = load_manifest(data)
    del manifest.stages["stage2_sums"], manifest.sources["sums"]
    write_manifest(manifest, data)


@pytest.mark.parametrize(
    "spoil", [of_another_version, damaged, damaged_manifest, without_the_last_stage]
)
def test_text_that_cannot_be_compared_keeps_no_weights_back_and_is_told(tmp_path, call, spoil):
    run = write_run_with_data(tmp_path / "run", step=3)
    append_row(run.metrics, {"step": 1, "attempt": 0, "tokens_seen": 64, "stage": "stage1_tales"})
    spoil(run.data)
    code, printed, told = call(
        "export", run.root, "--to", "hf", "--out", tmp_path / "out", "--json"
    )
    assert (code, "perplexity is not compared" in told) == (0, True), told
    assert [check["check"] for check in json.loads(printed)["checks"]] == ["token ids", "logits"]


def train_on(run: RunFolder, *, steps: range) -> Callable[[Path], Weights]:
    """Return what reads weights when the run has gone on: with another checkpoint, the oldest gone.

    It does so once for each of `steps`.
    """
    waiting = list(steps)

    def read(path: Path) -> Weights:
        if waiting:
            add_checkpoint(run, waiting.pop(0))
            purge_checkpoints(run.checkpoints, attempt=0, keep=2)
        return load_weights(path)

    return read


def test_an_average_of_a_run_that_deletes_its_oldest_is_of_the_newer_ones(
    tmp_path, call, monkeypatch
):
    run, out = run_with_checkpoints(tmp_path / "run", (1, 2)), tmp_path / "out"
    going_on = train_on(run, steps=range(3, 4))
    monkeypatch.setattr("yxanul.export.average.load_weights", going_on)
    words = ("--to", "hf", "--average", "last:2", "--out", out)
    code, _, err = call("export", run.root, *words)
    assert code == 0, err
    places = wanted_checkpoints(run, "last:2")
    assert [place.name for place in places] == ["step-00000002-a0", "step-00000003-a0"]
    mean, stored = average(places), load_file(out / "model.safetensors")
    assert len(mean) == len(stored)
    for name, tensor in stored.items():
        assert torch.equal(tensor, mean[name.removeprefix("model.")]), name


def test_a_run_that_deletes_faster_than_it_is_read_is_told_as_that(tmp_path, monkeypatch):
    run = run_with_checkpoints(tmp_path / "run", (1, 2))
    going_on = train_on(run, steps=range(3, 30))
    monkeypatch.setattr("yxanul.export.average.load_weights", going_on)
    with pytest.raises(UsageError, match=r"deletes its checkpoints .* checkpoint\.keep"):
        average_of(run, "last:2")


def test_damage_of_a_checkpoint_that_is_there_is_told_as_damage(tmp_path):
    run = run_with_checkpoints(tmp_path / "run", (1, 2))
    flip_bit(run.checkpoints / "step-00000001-a0" / "model.safetensors")
    with pytest.raises(CorruptCheckpointError, match="step-00000001-a0"):
        average_of(run, "last:2")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP], ids=lambda one: one.name)
def test_a_signal_ends_an_export_which_leaves_nothing(tmp_path, number):
    def end(_: str) -> None:
        assert signal.getsignal(number) is not signal.SIG_DFL, "it would end the tests"
        os.kill(os.getpid(), number)

    before = signal.signal(number, signal.SIG_DFL)
    try:
        with pytest.raises(SystemExit) as left:
            export_folder(subject(), tmp_path / "m", kind="f32", card="", say=end)
        assert signal.getsignal(number) is signal.SIG_DFL
    finally:
        signal.signal(number, before)
    assert left.value.code == 128 + number
    assert list(tmp_path.iterdir()) == []


def test_a_hangup_that_nohup_has_ignored_ends_no_export(tmp_path):
    def hang_up(_: str) -> None:
        os.kill(os.getpid(), signal.SIGHUP)

    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        done = export_folder(subject(), tmp_path / "m", kind="f32", card="", say=hang_up)
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)
    assert done.place.is_dir()
