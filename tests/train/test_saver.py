"""Checkpoints are written beside the training, and what the disk refuses is told as what it is."""

import numpy as np
import pytest

from yxanul.config.schema import CheckpointConfig
from yxanul.failpoints import VARIABLE
from yxanul.runfolder.checkpoints import CheckpointInfo, checkpoint_name, list_checkpoints
from yxanul.train.outward.saver import Saver, Snapshot


@pytest.mark.parametrize("fault", ["full", "broken"])
def test_an_old_checkpoint_that_cannot_be_deleted_is_no_missed_one(tmp_path, monkeypatch, fault):
    """The new one is whole; a run that waits for it had ended with 32."""
    monkeypatch.setenv(VARIABLE, f"checkpoint.purging={fault}")
    said: list[str] = []
    written: list[str] = []
    saver = Saver(
        tmp_path,
        CheckpointConfig(keep=2),
        say=said.append,
        written=lambda path: written.append(path.name),
    )
    names = [checkpoint_name(step, 0) for step in (1, 2, 3)]
    for step, name in enumerate(names, start=1):
        info = CheckpointInfo(tmp_path / name, step, 0, step, "stage1", False, None)
        weights = {"weight": np.zeros(4, np.float32)}
        saver.save(Snapshot(info, model=weights, optimizer={}, state={}), wait=True)
    saver.finish()
    assert written == names
    assert [path.name for path in list_checkpoints(tmp_path)] == names[1:]
    assert len(said) == 1
    assert said[0].startswith("old checkpoints stay: the disk ")
