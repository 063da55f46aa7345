"""What a run's mirror gets, whatever its storage does meanwhile."""

import time
from collections.abc import Callable
from pathlib import Path

import fsspec
import numpy as np
import pytest
from fsspec.implementations.local import LocalFileSystem

from yxanul.runfolder.checkpoints import CheckpointInfo, checkpoint_name
from yxanul.runfolder.layout import RunFolder
from yxanul.runfolder.lineage import AttemptStart, begin_attempt
from yxanul.runfolder.saving import save_checkpoint
from yxanul.train import mirroring as room
from yxanul.train.mirroring import Mirroring


class Odd(LocalFileSystem):
    """A folder of this machine that raises what it is told to before it takes a file."""

    protocol = "odd"
    faults: list[Exception] = []  # noqa: RUF012  (of all instances: one is made for each thread)

    @classmethod
    def _strip_protocol(cls, path):
        return super()._strip_protocol(str(path).removeprefix("odd://"))

    def put_file(self, path1, path2, callback=None, **kwargs):
        if Odd.faults:
            raise Odd.faults.pop(0)
        super().put_file(path1, path2, **kwargs)


@pytest.fixture
def address(tmp_path):
    fsspec.register_implementation("odd", Odd, clobber=True)
    Odd.faults.clear()
    return f"odd://{tmp_path}/mirror"


@pytest.fixture
def folder(tmp_path) -> RunFolder:
    folder = RunFolder(tmp_path / "run")
    folder.create()
    begin_attempt(folder.lineage, AttemptStart(0, 0, None, "the run begins"))
    return folder


def saved(folder: RunFolder, step: int, *, attempt: int = 0, permanent: bool = False) -> Path:
    """Write a checkpoint of a few numbers; return its folder."""
    info = CheckpointInfo(
        path=folder.checkpoints / checkpoint_name(step, attempt),
        step=step,
        attempt=attempt,
        tokens_seen=step,
        stage="stage1",
        permanent=permanent,
        parent=None,
    )
    tensors = {"weight": np.full(4, step, np.float32)}
    save_checkpoint(folder.checkpoints, info, model=tensors, optimizer=tensors, state={})
    return info.path


def there(tmp_path: Path) -> list[str]:
    """Return the names of the checkpoints at the mirror that are whole."""
    return sorted(p.parent.name for p in tmp_path.glob("mirror/checkpoints/*/manifest.json"))


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr(room, "_FIRST_WAIT_S", 0.01)


@pytest.mark.usefixtures("impatient")
def test_an_error_that_nobody_foresaw_is_told_and_the_copy_tried_again(address, folder, tmp_path):
    """A thread that ended would leave the rest of the run on this machine alone, without a word."""
    said: list[str] = []
    Odd.faults[:] = [KeyError("odd")]
    with Mirroring(address, folder, every_s=0.01, say=said.append) as mirroring:
        mirroring.offer(saved(folder, 1))
        wait_for(lambda: there(tmp_path) == ["step-00000001-a0"])
        mirroring.offer(saved(folder, 2))
    assert there(tmp_path) == ["step-00000001-a0", "step-00000002-a0"]
    assert said == ["mirror: KeyError: 'odd'"]
    Odd.faults[:] = [KeyError("odd")]
    folder.exit_record.write_text("{}")
    mirroring.publish_ending()
    assert (tmp_path / "mirror" / "run" / "exit.json").is_file()
