"""Files are whole or absent, whatever happens while they are written."""

import errno
import json
import os
import resource

import numpy as np
import pytest

from yxanul.errors import BrokenDiskError, DiskError
from yxanul.runfolder.checkpoints import CheckpointInfo
from yxanul.runfolder.durable import (
    disk_error,
    error_in,
    sha256_of,
    write_atomic,
    write_json,
    writing,
)
from yxanul.runfolder.layout import RunFolder
from yxanul.runfolder.saving import save_checkpoint
from yxanul.runfolder.sums import find_changes, write_sums


def names(folder) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_written_and_replaced_and_nothing_else_is_left(tmp_path):
    path = tmp_path / "a.txt"
    write_atomic(path, "eins\n")
    write_atomic(path, "zwei ü\n")
    assert path.read_bytes() == "zwei ü\n".encode()
    assert names(tmp_path) == ["a.txt"]


def test_a_failed_write_keeps_the_old_file_and_leaves_no_rest(tmp_path):
    path = tmp_path / "a.txt"
    path.mkdir()  # a folder of that name cannot be replaced by a file
    with pytest.raises(DiskError, match=r"a\.txt could not be written"):
        write_atomic(path, "text")
    assert names(tmp_path) == ["a.txt"]


def test_what_an_earlier_process_left_half_written_is_replaced(tmp_path):
    (tmp_path / ".a.txt.tmp").write_text("hal")
    write_atomic(tmp_path / "a.txt", "whole")
    assert names(tmp_path) == ["a.txt"]
    assert (tmp_path / "a.txt").read_text() == "whole"


def test_what_others_write_of_a_shared_file_is_left_to_them_for_a_day(tmp_path):
    mine, fresh, old, theirs = (
        tmp_path / name
        for name in ("[a].txt", ".[a].txt.0123abcd.tmp", ".[a].txt.4567cdef.tmp", ".a.b.tmp")
    )
    for path in (fresh, old, theirs):
        path.write_text("hal")
    for path in (old, theirs):
        os.utime(path, (0, 0))
    write_atomic(mine, "whole", is_shared=True)
    assert mine.read_text() == "whole"
    assert names(tmp_path) == sorted(path.name for path in (mine, fresh, theirs))


def test_half_a_file_of_another_process_is_none_of_those_that_are_summed(tmp_path):
    run = RunFolder(tmp_path)
    run.create()
    half = tmp_path / ".report.html.0123abcd.tmp"
    half.write_text("hal")
    write_sums(run)
    half.unlink()
    assert find_changes(run) == []


def test_a_missing_folder_is_a_disk_error_that_names_the_file(tmp_path):
    with pytest.raises(DiskError, match=r"nowhere/a\.json"):
        write_json(tmp_path / "nowhere" / "a.json", {})


def test_json_is_readable_and_refuses_what_json_has_no_word_for(tmp_path):
    path = tmp_path / "a.json"
    value = {"name": "Zürich", "undecodable": "a\udce9b", "list": [1, 2.5, None]}
    write_json(path, value)
    assert json.loads(path.read_text(encoding="utf-8")) == value
    assert "Zürich" in path.read_text(encoding="utf-8")
    with pytest.raises(ValueError, match="JSON"):
        write_json(path, {"loss": float("nan")})
    assert json.loads(path.read_text(encoding="utf-8")) == value


def test_a_full_disk_says_what_to_do(tmp_path):
    full = disk_error(OSError(errno.ENOSPC, "x"), tmp_path)
    assert "the disk is full" in str(full)
    assert "free some space" in str(full)
    with pytest.raises(DiskError, match="Permission denied"), writing(tmp_path):
        raise PermissionError(errno.EACCES, "x")
    assert "odd" in str(disk_error(OSError("odd"), tmp_path))


def test_what_the_disk_told_safetensors_is_told_as_such(tmp_path):
    """A file that may not grow any further, as one on a disk that fails or is full."""
    info = CheckpointInfo(tmp_path / "step-00000001-a0", 1, 0, 1, "stage1", False, None)
    weights = {"weight": np.zeros(1000)}
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        with pytest.raises(DiskError, match=r"a0 could not be written \(File too large\)"):
            save_checkpoint(tmp_path, info, model=weights, optimizer={}, state={})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (errno.EIO, BrokenDiskError),
        (errno.ESTALE, BrokenDiskError),
        (errno.EACCES, BrokenDiskError),
        (errno.ENOSPC, DiskError),
    ],
)
def test_a_disk_that_failed_while_weights_were_written_may_be_there_again(tmp_path, number, kind):
    words = f"Error while serializing: I/O error: {os.strerror(number)} (os error {number})"
    assert type(disk_error(error_in(words), tmp_path, was_writable=True)) is kind


def test_the_hash_is_that_of_all_blocks(tmp_path):
    path = tmp_path / "a.bin"
    path.write_bytes(b"a" * (1 << 20) + b"b")
    first = sha256_of(path)
    path.write_bytes(b"a" * (1 << 20) + b"c")
    assert len(first) == 64
    assert sha256_of(path) != first
