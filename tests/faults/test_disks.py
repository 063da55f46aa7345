"""Disks that are full, fail, or may not be written."""

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults.harness import assert_ends_like, names, run_with
from tests.train.world import STEPS, last_step
from yxanul.errors import BrokenDiskError, DiskError
from yxanul.parallel.processes import ALONE
from yxanul.runfolder.checkpoints import verify_checkpoint
from yxanul.runfolder.durable import disk_error, reading, writing
from yxanul.runfolder.layout import RunFolder
from yxanul.signals import StopRequest
from yxanul.train.running import session
from yxanul.train.safety import ending
from yxanul.train.safety.ending import owned


@pytest.mark.fault(11)
@pytest.mark.slow
def test_a_checkpoint_that_a_full_disk_refuses_is_missed_and_training_goes_on(world, unbroken):
    told = run_with(world, "checkpoint.writing=full@2", code=0).stderr
    assert "checkpoint missed (1 in a row, 3 end the run): the disk is full" in told
    assert_ends_like(world, unbroken)


@pytest.mark.slow
@pytest.mark.fault(11)
def test_three_missed_checkpoints_end_the_run_and_harm_none(world, unbroken):
    every_step = ("--set", "checkpoint.every_steps=1")
    told = run_with(world, "checkpoint.writing=full@3-", *every_step, code=32).stderr
    assert "checkpoint missed (2 in a row" in told
    assert world.exit_record("run")["code"] == 32
    for path in world.checkpoints("run"):
        verify_checkpoint(path)
    assert not [n for n in names(world.root / "run" / "checkpoints") if n.startswith(".tmp")]
    world.finish("run", "run")
    assert_ends_like(world, unbroken)


@pytest.mark.slow
@pytest.mark.fault(12)
def test_rows_that_a_full_disk_refuses_cost_rows_and_one_warning(world, unbroken):
    told = run_with(world, "rows.metrics=full@4-9", code=0).stderr
    assert told.count("rows are missing from here on") == 1
    assert last_step(world.root / "run" / "metrics.jsonl") == 2 * STEPS
    wanted, found = (w.checkpoints("run")[-1] for w in (unbroken, world))
    for name in ("model.safetensors", "optimizer.safetensors", "state.json"):
        assert (found / name).read_bytes() == (wanted / name).read_bytes()


@pytest.mark.slow
@pytest.mark.fault(13)
@pytest.mark.parametrize("fault", ["broken", "denied"])
def test_a_disk_that_failed_for_a_moment_is_tried_again(world, unbroken, fault):
    run_with(world, f"checkpoint.writing={fault}@2", code=0)
    assert_ends_like(world, unbroken)


@pytest.mark.slow
@pytest.mark.fault(25)
def test_a_disk_that_hangs_under_the_last_checkpoint_ends_the_run_with_11(world):
    """The run has ended by an error, and would wait for ever to say so."""
    faults = "checkpoint.thread=wait@2,step.updated=memory@3"
    switches = ("--set", "checkpoint.every_steps=1", "--set", "watch.hang_s=2")
    run_with(world, faults, *switches, code=11)
    assert "the last checkpoint did not end within" in world.exit_record("run")["reason"]


@pytest.mark.slow
@pytest.mark.fault(13)
@pytest.mark.parametrize(
    ("fault", "what", "why"),
    [
        ("broken", "the disk failed at", "Input/output error"),
        ("denied", "may not be written any more", "Permission denied"),
    ],
)
def test_a_disk_that_keeps_failing_ends_the_run_with_11(world, unbroken, fault, what, why):
    told = run_with(world, f"checkpoint.writing={fault}@2-", code=11).stderr
    assert what in told
    assert why in told
    assert world.exit_record("run")["code"] == 11
    world.finish("run", "run")
    assert_ends_like(world, unbroken)


def failing(number: int, *, after: int) -> Callable[..., None]:
    """Return what stands for a read of the run's disk, which fails when `after` have gone well."""
    reads = iter(range(after))

    def read(folder: Path, **_: object) -> None:
        if next(reads, None) is None:
            raise OSError(number, os.strerror(number), str(folder))

    return read


@pytest.mark.fault(13)
@pytest.mark.parametrize("number", [errno.EIO, errno.ENOTCONN])
def test_a_disk_that_fails_where_the_run_reads_it_ends_the_run_with_11(world, monkeypatch, number):
    monkeypatch.setattr(session, "newest_name", failing(number, after=1))
    told = world.finish("run", "run", "--max_steps", "3", code=11).stderr
    assert f"the disk failed at {world.root / 'run' / 'checkpoints'}" in told
    assert world.exit_record("run")["code"] == 11


@pytest.mark.fault(13)
def test_what_fails_while_a_run_ends_takes_the_place_of_no_reason(world, monkeypatch):
    monkeypatch.setattr(session, "newest_name", failing(errno.EACCES, after=1))
    told = run_with(world, "rows.metrics=broken@2", "--max_steps", "3", code=11).stderr
    assert "and while the run ended: [Errno 13] Permission denied" in told
    reason = world.exit_record("run")["reason"]
    assert reason.startswith(f"the disk failed at {world.root / 'run' / 'metrics.jsonl'}")


@pytest.mark.fault(13)
@pytest.mark.parametrize("number", [errno.ENOTCONN, errno.ETIMEDOUT, errno.EHOSTDOWN])
def test_a_disk_of_a_network_that_is_away_may_come_back(tmp_path, number):
    with pytest.raises(BrokenDiskError), writing(tmp_path):
        raise OSError(number, os.strerror(number))
    with pytest.raises(BrokenDiskError, match="the disk failed at a file"), reading():
        raise OSError(number, os.strerror(number), "a file")
    with pytest.raises(BrokenDiskError, match=r"the disk failed \("), reading():
        raise OSError(number, os.strerror(number))  # of a file that was open
    with pytest.raises(FileNotFoundError), reading():
        raise FileNotFoundError(errno.ENOENT, "No such file", "a file")


@pytest.fixture
def unwritable_record(monkeypatch):
    """RUN/exit.json may not be written."""

    def refuse(path: Path, _: object) -> None:
        raise disk_error(PermissionError(errno.EACCES, "Permission denied"), path)

    monkeypatch.setattr(ending, "write_json", refuse)


@pytest.mark.usefixtures("unwritable_record")
def test_a_record_that_cannot_be_written_hides_no_error(tmp_path):
    folder, said = RunFolder(tmp_path), []
    with (
        pytest.raises(BrokenDiskError, match="what ended it"),
        owned(folder, ALONE, stop=StopRequest(), say=said.append),
    ):
        raise BrokenDiskError("what ended it")
    assert [f"{folder.exit_record} could not be written" in line for line in said] == [True]
    with (
        pytest.raises(DiskError, match=r"exit\.json could not be written"),
        owned(folder, ALONE, stop=StopRequest(), say=said.append),
    ):
        pass


@pytest.mark.parametrize("name", [None, "/somewhere/file"])
def test_a_full_disk_that_no_writer_names_is_recorded_as_the_program_leaves(tmp_path, name):
    folder = RunFolder(tmp_path)
    with pytest.raises(OSError), owned(folder, ALONE, stop=StopRequest(), say=print):  # noqa: PT011
        raise OSError(errno.ENOSPC, "No space left on device", name)
    record = json.loads(folder.exit_record.read_text())
    assert record["code"] == 32
    assert record["reason"].startswith(f"the disk is full: {name or 'a file'} could not be written")


def come_to_a_closed_path(folder: RunFolder, *, has_begun: bool) -> None:
    if has_begun:
        ending.forget_ending(folder, ALONE)
    raise PermissionError(errno.EACCES, "Permission denied", "/somewhere/file")


def recorded_end(folder: RunFolder, *, has_begun: bool) -> dict:
    """Return the record behind a start that ends so, after it began to train or before."""
    with pytest.raises(PermissionError), owned(folder, ALONE, stop=StopRequest(), say=print):
        come_to_a_closed_path(folder, has_begun=has_begun)
    return json.loads(folder.exit_record.read_text())


def test_a_path_that_cannot_be_used_is_recorded_as_the_program_leaves(tmp_path):
    """It is a refusal, which leaves the record of an end before, unless it had begun to train."""
    folder = RunFolder(tmp_path)
    told = "/somewhere/file cannot be used: Permission denied; name another path"
    first = recorded_end(folder, has_begun=False)
    assert (first["code"], first["reason"]) == (30, told)
    folder.exit_record.write_text(json.dumps({"code": 0}))
    assert recorded_end(folder, has_begun=False) == {"code": 0}
    assert recorded_end(folder, has_begun=True)["reason"] == told


@pytest.mark.slow
@pytest.mark.fault(13)
@pytest.mark.usefixtures("unwritable_record")
def test_a_folder_that_takes_neither_checkpoint_nor_record_ends_the_run_with_11(world):
    told = run_with(world, "checkpoint.writing=denied@2-", code=11).stderr
    assert "how the run ended is not written down" in told
    assert "may not be written any more" in told
    assert not (world.root / "run" / "exit.json").exists()


@pytest.mark.fault(13)
def test_a_folder_that_may_not_be_written_is_refused_before_a_run_begins(world, monkeypatch):
    """For root every folder may be written, so that it may not has to be planted."""
    checkpoints = world.root / "run" / "checkpoints"
    monkeypatch.setattr(os, "access", lambda path, _: path != checkpoints)
    told = world.finish("run", "run", code=30).stderr
    assert f"{checkpoints} may not be written by this user" in told
