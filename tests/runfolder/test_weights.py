"""Weights are found where the run stands, verified, and read beside a run that trains."""

import shutil
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from tests.evaluate.runs import flip_bit
from yxanul.errors import CorruptCheckpointError, UsageError
from yxanul.runfolder.checkpoints import CheckpointInfo, checkpoint_name, load_weights
from yxanul.runfolder.layout import RunFolder
from yxanul.runfolder.lineage import AttemptStart, begin_attempt
from yxanul.runfolder.saving import purge_checkpoints, save_checkpoint
from yxanul.runfolder.weights import find_weights


@pytest.fixture
def run(tmp_path) -> RunFolder:
    folder = RunFolder(tmp_path / "run")
    folder.create()
    begin(folder, 0)
    return folder


def begin(run: RunFolder, attempt: int, *, parent: str | None = None) -> None:
    begin_attempt(run.lineage, AttemptStart(attempt, step=3, parent=parent, reason="a test"))


def add(run: RunFolder, step: int, attempt: int = 0) -> Path:
    path = run.checkpoints / checkpoint_name(step, attempt)
    info = CheckpointInfo(path, step, attempt, step * 10, "stage1", False, None)
    model = {"w": np.full(1000, step + attempt / 10, dtype=np.float32)}
    save_checkpoint(run.checkpoints, info, model=model, optimizer={}, state={})
    return path


def found(place: Path) -> str:
    return find_weights(place).weights.info.name


def test_a_run_folder_gives_its_newest_checkpoint_and_a_checkpoint_gives_itself(run):
    older, newer = add(run, 3), add(run, 6)
    weights = find_weights(run.root)
    assert weights.weights.info.name == newer.name
    assert (weights.weights.model["w"] == 6).all()
    assert weights.refused == {}
    named = find_weights(older)
    assert (named.weights.model["w"] == 3).all()
    assert named.run.root.resolve() == run.root.resolve()


def test_a_link_to_a_checkpoint_and_a_relative_path_lead_to_it(run, monkeypatch):
    path = add(run, 3)
    (run.root / "latest").symlink_to(path)
    assert found(run.root / "latest") == path.name
    monkeypatch.chdir(path)
    assert found(Path()) == path.name


def test_only_the_weights_are_verified_and_read(run):
    path = add(run, 3)
    (path / "optimizer.safetensors").unlink()
    (path / "state.json").write_text("damaged")
    assert (load_weights(path).model["w"] == 3).all()
    flip_bit(path / "model.safetensors")
    with pytest.raises(CorruptCheckpointError, match=r"model\.safetensors"):
        load_weights(path)


def test_a_newer_checkpoint_that_does_not_verify_is_passed_over_and_told(run):
    add(run, 3)
    bad = add(run, 6)
    flip_bit(bad / "model.safetensors")
    weights = find_weights(run.root)
    assert weights.weights.info.step == 3
    assert list(weights.refused) == [bad]
    assert "sha256" in str(weights.refused[bad])


def test_no_checkpoint_that_verifies_is_an_error_with_every_reason(run):
    for step in (3, 6):
        flip_bit(add(run, step) / "model.safetensors")
    with pytest.raises(CorruptCheckpointError, match=r"step-00000006-a0.*step-00000003-a0"):
        find_weights(run.root)


def test_the_current_attempt_counts_and_before_its_first_checkpoint_its_parent(run):
    parent = add(run, 3)
    add(run, 6)
    begin(run, 1, parent=parent.name)
    assert found(run.root) == parent.name
    own = add(run, 5, attempt=1)
    assert found(run.root) == own.name


def test_an_attempt_may_go_on_from_another_run(run, tmp_path):
    other = RunFolder(tmp_path / "other")
    other.create()
    theirs = add(other, 9)
    add(run, 3)
    begin(run, 1, parent=str(theirs))
    assert (find_weights(run.root).weights.model["w"] == 9).all()


def test_an_attempt_that_begins_with_weights_of_the_hubs_kind_has_no_checkpoint_yet(run, tmp_path):
    weights = tmp_path / "exported"
    weights.mkdir()
    shutil.copy(add(run, 3) / "model.safetensors", weights)
    begin(run, 1, parent=str(weights))
    with pytest.raises(UsageError, match="has no checkpoint"):
        find_weights(run.root)
    begin(run, 2, parent=checkpoint_name(6, 0))
    with pytest.raises(CorruptCheckpointError, match=r"manifest\.json is missing"):
        find_weights(run.root)


@pytest.mark.parametrize("kind", ["nothing", "file", "empty", "hub", "hugging face", "weights"])
def test_any_other_place_is_refused_in_one_sentence(run, kind):
    place = run.root.parent / kind
    if kind == "file":
        place.write_text("x")
    elif kind not in ("nothing", "hub"):
        place.mkdir()
    if kind == "hub":
        place = Path("openai-community/gpt2")
    if kind in ("hugging face", "weights"):
        shutil.copy(add(run, 3) / "model.safetensors", place)
    if kind == "hugging face":
        (place / "config.json").write_text("{}")
    with pytest.raises(UsageError, match="neither a run folder nor one of its checkpoints") as told:
        find_weights(place)
    assert str(place) in str(told.value)


def test_a_run_without_a_checkpoint_says_so(run):
    with pytest.raises(UsageError, match="has no checkpoint"):
        find_weights(run.root)


def test_a_checkpoint_without_its_manifest_or_under_another_name_is_corrupt(run):
    path = add(run, 3)
    renamed = run.root / "mine"
    shutil.copytree(path, renamed)
    (path / "manifest.json").unlink()
    with pytest.raises(CorruptCheckpointError, match=r"manifest\.json is missing"):
        find_weights(path)
    with pytest.raises(CorruptCheckpointError, match="holds the checkpoint step-00000003-a0"):
        find_weights(renamed)


def test_a_run_that_writes_and_deletes_checkpoints_can_be_read(run):
    add(run, 1)
    steps: list[int] = []
    enough = threading.Event()

    def train() -> None:
        for step in range(2, 5000):
            add(run, step)
            purge_checkpoints(run.checkpoints, attempt=0, keep=1)
            time.sleep(0.01)  # as a step takes a while
            if enough.is_set() and step >= 60:
                return

    with ThreadPoolExecutor(1) as pool:
        writer = pool.submit(train)
        try:
            while not writer.done():
                weights = find_weights(run.root)
                assert (weights.weights.model["w"] == weights.weights.info.step).all()
                steps.append(weights.weights.info.step)
                if len(set(steps)) > 3:
                    enough.set()
        finally:
            enough.set()
        writer.result()
    assert steps == sorted(steps)
    assert len(set(steps)) > 3
