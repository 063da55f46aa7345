"""One process holds a run folder, and its death frees it."""

import errno
import fcntl
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from yxanul.errors import BrokenDiskError, DiskError, UsageError
from yxanul.runfolder import layout
from yxanul.runfolder.layout import RunFolder, run_files
from yxanul.runfolder.sums import find_changes, write_sums

SRC = Path(__file__).parents[2] / "src"
HOLD = """
import sys
from pathlib import Path
from yxanul.runfolder.layout import RunFolder
with RunFolder(Path(sys.argv[1])).locked():
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def folder(tmp_path) -> RunFolder:
    found = RunFolder(tmp_path / "run")
    found.create()
    return found


def test_creating_a_folder_twice_is_no_error_and_a_file_in_its_place_is(tmp_path, folder):
    folder.create()
    assert folder.checkpoints.is_dir()
    assert folder.scores.is_dir()
    (tmp_path / "file").write_text("")
    with pytest.raises(DiskError, match="file"):
        RunFolder(tmp_path / "file").create()


@pytest.mark.fault(13)
def test_a_folder_where_a_run_could_write_may_be_writable_again(folder, monkeypatch):
    """For root every folder may be written, so that it may not has to be planted."""
    monkeypatch.setattr(os, "access", lambda path, _: path != folder.scores)
    with pytest.raises(UsageError, match="choose another --out"):
        folder.create()
    folder.lineage.write_text("")
    with pytest.raises(BrokenDiskError, match=f"{folder.scores} may not be written any more"):
        folder.create()


def test_a_folder_is_empty_when_nothing_lies_in_it(tmp_path, folder):
    assert RunFolder(tmp_path / "missing").is_empty()
    folder.create()
    assert folder.is_empty()  # what a refused command leaves behind
    folder.config.write_text("model: {}")
    assert not folder.is_empty()


def test_all_paths_lie_inside_the_folder(folder):
    names = [name for name in dir(RunFolder) if isinstance(getattr(RunFolder, name), property)]
    paths = {getattr(folder, name) for name in names}
    assert len(paths) == len(names)
    assert all(path.parent == folder.root for path in paths)


def hold(folder: RunFolder) -> subprocess.Popen:
    """Return a process that holds the folder until its stdin is closed."""
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder.root)],
        cwd=SRC,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert holder.stdout.readline() == "held\n"
    return holder


def test_a_second_process_is_refused_and_the_first_is_named_until_it_dies(folder):
    with hold(folder) as holder:
        with pytest.raises(UsageError, match=f"pid {holder.pid}"), folder.locked():
            pass
        holder.send_signal(signal.SIGKILL)
        holder.wait()
    with folder.locked():
        pass


def test_another_process_that_has_our_number_is_another_one(folder):
    """In two containers that share a disk both may be process 1."""
    with hold(folder):
        assert folder.is_held_elsewhere()
        (folder.root / ".lock").write_text(str(os.getpid()))
        assert folder.is_held_elsewhere()
    assert not folder.is_held_elsewhere()


def test_a_process_knows_its_own_lock_by_any_path(folder, tmp_path):
    (tmp_path / "link").symlink_to(folder.root)
    with folder.locked():
        with pytest.raises(UsageError), folder.locked():
            pass
        assert not RunFolder(tmp_path / "link").is_held_elsewhere()


def test_a_reader_that_looks_at_the_lock_refuses_no_start(folder, monkeypatch):
    monkeypatch.setattr(layout, "_LOOKED_AT_S", 20.0)  # and tries after each fiftieth
    with (folder.root / ".lock").open("a+") as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        looked = threading.Timer(0.1, fcntl.flock, (file, fcntl.LOCK_UN))
        looked.start()
        with folder.locked():
            pass
        looked.join()


def test_the_lock_is_free_after_an_error_inside(folder):
    with pytest.raises(ZeroDivisionError), folder.locked():
        raise ZeroDivisionError
    with folder.locked(), pytest.raises(UsageError, match="another process"), folder.locked():
        pass


LOCKLESS = sorted({errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP})


@pytest.mark.parametrize("number", LOCKLESS)
def test_a_file_system_without_locks_takes_no_run_and_is_read(folder, monkeypatch, number):
    """As those of a network: Lustre without its flock option, NFS without its lock daemon."""

    def refuse(*_):
        raise OSError(number, os.strerror(number))

    with folder.locked():
        pass
    monkeypatch.setattr(fcntl, "flock", refuse)
    assert not folder.is_held_elsewhere()
    with pytest.raises(UsageError, match="cannot lock a file"), folder.locked():
        pass


def test_a_lock_in_a_missing_folder_is_a_disk_error(tmp_path):
    with pytest.raises(DiskError, match="missing"), RunFolder(tmp_path / "missing").locked():
        pass


def test_what_other_programs_leave_there_is_no_file_of_the_run(folder):
    mine = ["config.yaml", "scores/skills/one.json"]
    others = [".DS_Store", "scores/.nfs0001", ".cache/one.json", "data/one.json", "wandb/one.json"]
    for name in (*mine, *others):
        path = folder.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("one")
    assert [path.relative_to(folder.root).as_posix() for path in run_files(folder.root)] == mine
    write_sums(folder)
    for name in others:
        (folder.root / name).unlink()
    assert find_changes(folder) == []
    (folder.root / mine[1]).unlink()
    assert [change.path for change in find_changes(folder)] == mine[1:]
