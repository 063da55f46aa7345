"""Checkpoints are written beside the training, and what the disk refuses is told as what it is."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from yxanul import failpoints
from yxanul.config.schema import CheckpointConfig
from yxanul.failpoints import VARIABLE
from yxanul.runfolder.checkpoints import (
    CheckpointInfo,
    checkpoint_name,
    list_checkpoints,
    verify_checkpoint,
)
from yxanul.train.outward import saver


@pytest.mark.parametrize("fault", ["full", "broken"])
def test_an_old_checkpoint_that_cannot_be_deleted_is_no_missed_one(tmp_path, monkeypatch, fault):
    """The new one is whole; a run that waits for it had ended with 32."""
    monkeypatch.setenv(VARIABLE, f"checkpoint.purging={fault}")
    said, written = saved(tmp_path, 3)
    assert [path.name for path in list_checkpoints(tmp_path)] == written[1:]
    assert len(said) == 1
    assert said[0].startswith("old checkpoints stay: the disk ")


@pytest.mark.fault(13)
def test_a_checkpoint_that_is_there_when_the_disk_fails_is_taken_for_written(tmp_path, monkeypatch):
    monkeypatch.setenv(VARIABLE, "checkpoint.renamed=broken@2")
    monkeypatch.setattr(failpoints, "_visits", Counter())
    monkeypatch.setattr(saver, "_RETRIES_S", (0.0, 0.0))
    said, written = saved(tmp_path, 2)
    assert [verify_checkpoint(path).name for path in list_checkpoints(tmp_path)] == written
    assert said == []


@pytest.mark.fault(11)
def test_a_hint_that_cannot_be_written_costs_no_checkpoint(tmp_path):
    (tmp_path / "latest").mkdir()
    said, written = saved(tmp_path, 1)
    assert verify_checkpoint(tmp_path / written[0]).step == 1
    assert len(said) == 1
    assert said[0].startswith("`latest` names an older checkpoint: ")


def saved(folder: Path, count: int) -> tuple[list[str], list[str]]:
    """Save so many checkpoints, one after the other; return what is said, and names written."""
    said: list[str] = []
    written: list[str] = []
    writer = saver.Saver(
        folder,
        CheckpointConfig(keep=2),
        say=said.append,
        written=lambda path: written.append(path.name),
    )
    names = [checkpoint_name(step, 0) for step in range(1, count + 1)]
    for step, name in enumerate(names, start=1):
        info = CheckpointInfo(folder / name, step, 0, step, "stage1", False, None)
        weights = {"weight": np.zeros(4, np.float32)}
        writer.save(saver.Snapshot(info, model=weights, optimizer={}, state={}), wait=True)
    writer.finish()
    assert written == names
    return said, written
