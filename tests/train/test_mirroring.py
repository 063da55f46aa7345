"""What a run's mirror gets, whatever its storage does meanwhile."""

import errno
import io
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import fsspec
import numpy as np
import pytest
from fsspec.implementations.local import LocalFileSystem

from yxanul.runfolder import mirror
from yxanul.runfolder.bringing import bring_back, bring_checkpoint
from yxanul.runfolder.checkpoints import CheckpointInfo, checkpoint_name, verify_checkpoint
from yxanul.runfolder.layout import RunFolder
from yxanul.runfolder.lineage import AttemptStart, begin_attempt, current_attempt
from yxanul.runfolder.lost import has_lost_checkpoints
from yxanul.runfolder.mirror import Mirror
from yxanul.runfolder.saving import save_checkpoint
from yxanul.runfolder.spending import Payment, record_payment
from yxanul.train.outward import mirroring as room
from yxanul.train.outward.mirroring import Mirroring


class Odd(LocalFileSystem):
    """A folder of this machine that raises what it is told to before it takes a file."""

    protocol = "odd"
    faults: list[Exception] = []  # noqa: RUF012  (of all instances: one is made for each thread)
    flips = 0
    """So many of the next weights come to be other bytes than were sent."""

    @classmethod
    def _strip_protocol(cls, path):
        return super()._strip_protocol(str(path).removeprefix(f"{cls.protocol}://"))

    def put_file(self, path1, path2, callback=None, **kwargs):
        if Odd.faults:
            raise Odd.faults.pop(0)
        super().put_file(path1, path2, **kwargs)
        if Odd.flips and path2.endswith("model.safetensors"):
            Odd.flips -= 1
            content = bytearray(Path(path2).read_bytes())
            content[-1] ^= 1
            Path(path2).write_bytes(content)


@pytest.fixture
def address(tmp_path):
    fsspec.register_implementation("odd", Odd, clobber=True)
    Odd.faults.clear()
    Odd.flips = 0
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


@pytest.mark.usefixtures("impatient")
def test_what_is_kept_for_good_is_never_left_out(address, folder, tmp_path):
    """A gate may go back to it on a machine that has the newest alone."""
    Odd.faults[:] = [OSError(503, "Busy") for _ in range(4)]
    steps = {1: False, 2: True, 3: False, 4: True, 5: False, 6: False}
    with Mirroring(address, folder, every_s=3600, say=lambda _: None) as mirroring:
        for step, permanent in steps.items():
            mirroring.offer(saved(folder, step, permanent=permanent))
        kept = {"step-00000002-a0", "step-00000004-a0"}
        wait_for(lambda: kept <= set(there(tmp_path)))
    assert there(tmp_path)[-3:] == [f"step-0000000{step}-a0" for step in (2, 4, 6)]
    assert not list(folder.checkpoints.glob(".tmp-*"))


def test_what_cannot_be_held_for_copying_takes_no_room(address, folder, tmp_path):
    """Where a disk knows no hard links, each that it has no room for would leave half a copy."""
    said: list[str] = []
    with Mirroring(address, folder, every_s=0.01, say=said.append) as mirroring:
        refused = saved(folder, 1)
        (refused / "folder").mkdir()  # neither to be linked nor to be copied as a file
        mirroring.offer(refused)
    assert [told.startswith("mirror: step-00000001-a0 is not copied: ") for told in said] == [True]
    assert not list(folder.checkpoints.glob(".tmp-*"))


@pytest.mark.usefixtures("impatient")
def test_what_an_earlier_process_left_is_copied_if_it_is_kept_for_good(address, folder, tmp_path):
    Odd.faults[:] = []
    for step, permanent in {1: True, 2: False, 3: True}.items():
        saved(folder, step, permanent=permanent)
    with Mirroring(address, folder, every_s=0.01, say=lambda _: None) as mirroring:
        mirroring.offer(saved(folder, 4))
        wait_for(lambda: len(there(tmp_path)) >= 3)
    assert there(tmp_path) == [f"step-0000000{step}-a0" for step in (1, 3, 4)]


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("failures", [0, 2])
def test_what_an_earlier_process_left_is_copied_where_this_one_writes_nothing(
    address, folder, tmp_path, failures
):
    """The storage failed at the run's very end, and the same command says that it is complete."""
    Odd.faults[:] = [OSError(503, "Busy") for _ in range(failures)]
    for step, permanent in {1: True, 2: False, 3: False}.items():
        saved(folder, step, permanent=permanent)
    with Mirroring(address, folder, every_s=3600, say=lambda _: None):
        pass
    assert there(tmp_path) == ["step-00000001-a0", "step-00000003-a0"]
    assert not list(folder.checkpoints.glob(".tmp-*"))


@pytest.mark.usefixtures("impatient")
def test_what_an_earlier_process_left_and_cannot_be_looked_for_is_told(folder, tmp_path):
    fsspec.register_implementation("deaf", Deaf, clobber=True)
    saved(folder, 1, permanent=True)
    said: list[str] = []
    with Mirroring(f"deaf://{tmp_path}/mirror", folder, every_s=3600, say=said.append):
        pass
    told = "mirror: what an earlier start has left is not copied, and is in the run folder alone"
    assert said[-1] == told


class Deaf(Odd):
    """A storage that does not answer."""

    protocol = "deaf"

    def info(self, path, **kwargs):
        raise OSError(503, "Busy")


@pytest.mark.fault(33)
@pytest.mark.usefixtures("impatient")
def test_keys_that_have_expired_before_a_start_end_no_copying(folder, tmp_path, monkeypatch):
    """An earlier process was let in."""
    fsspec.register_implementation("shut", Shut, clobber=True)
    monkeypatch.setattr(room, "_LONGEST_WAIT_S", 0.01)
    saved(folder, 1, permanent=True)
    said: list[str] = []
    Shut.refusals = 2
    with Mirroring(f"shut://{tmp_path}/mirror", folder, every_s=0.01, say=said.append):
        wait_for(lambda: there(tmp_path) == ["step-00000001-a0"] or "any more" in str(said))
    assert there(tmp_path) == ["step-00000001-a0"]
    assert ["Forbidden" in line for line in said] == [True]


@pytest.mark.fault(33)
@pytest.mark.usefixtures("impatient")
def test_a_refusal_of_the_first_copy_ends_no_copying(address, folder, tmp_path, monkeypatch):
    """The run was let in when it began, where it tries the address out."""
    monkeypatch.setattr(room, "_LONGEST_WAIT_S", 0.01)
    said: list[str] = []
    Odd.faults[:] = [PermissionError(403, "Forbidden"), FileNotFoundError(404, "Not Found")]
    with Mirroring(address, folder, every_s=0.01, say=said.append) as mirroring:
        mirroring.offer(saved(folder, 1))
        wait_for(lambda: there(tmp_path) == ["step-00000001-a0"] or "any more" in str(said))
    assert there(tmp_path) == ["step-00000001-a0"]
    assert ["Forbidden" in line for line in said] == [True]


@pytest.mark.fault(34)
@pytest.mark.usefixtures("impatient")
def test_who_is_overtaken_holds_no_checkpoint_for_copying(address, folder, tmp_path):
    """Each holds a checkpoint's bytes on the disk that the folder has given up."""
    spent = tmp_path / "mirror" / "run" / folder.spending.name
    record_payment(folder.spending, Payment(process=0, seconds=1.0, tokens_spent=1))
    said: list[str] = []
    with Mirroring(address, folder, every_s=3600, say=said.append) as mirroring:
        mirroring.offer(saved(folder, 1))
        wait_for(spent.exists)
        record_payment(spent, Payment(process=9, seconds=2.0, tokens_spent=2))
        with mirroring._changed:  # both wait when the thread looks
            mirroring.offer(saved(folder, 2, permanent=True))
            mirroring.offer(saved(folder, 3))
        mirroring._thread.join(30)
        assert "Nothing is copied any more" in said[-1]
        mirroring.offer(saved(folder, 4))
        assert not list(folder.checkpoints.glob(".tmp-mirror-*"))


class Shut(Odd):
    """A storage that lets nobody in for a while."""

    protocol = "shut"
    refusals = 0

    def info(self, path, **kwargs):
        if Shut.refusals:
            Shut.refusals -= 1
            raise PermissionError(403, "Forbidden")
        return super().info(path, **kwargs)


@pytest.mark.usefixtures("impatient")
def test_one_that_can_never_be_copied_holds_no_other_up(address, folder, tmp_path):
    said: list[str] = []
    with Mirroring(address, folder, every_s=0.01, say=said.append) as mirroring:
        spoiled = saved(folder, 1, permanent=True)
        content = (spoiled / "model.safetensors").read_bytes()
        (spoiled / "model.safetensors").write_bytes(content[:-1] + b"x")
        mirroring.offer(spoiled)
        mirroring.offer(saved(folder, 2))
        wait_for(lambda: there(tmp_path) == ["step-00000002-a0"])
        mirroring.offer(saved(folder, 3, permanent=True))
        wait_for(lambda: "step-00000003-a0" in there(tmp_path))
    assert "step-00000001-a0" not in there(tmp_path)
    assert len(said) == 1
    assert said[0].startswith("mirror: step-00000001-a0 is not copied:")
    assert "its sha256 differs from the manifest's" in said[0]


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("is_last", [True, False])
def test_bytes_that_the_storage_changes_once_are_sent_again(address, folder, tmp_path, is_last):
    Odd.flips = 1
    said: list[str] = []
    with Mirroring(address, folder, every_s=0.01, say=said.append) as mirroring:
        mirroring.offer(saved(folder, 1, permanent=True))
        if not is_last:
            wait_for(lambda: there(tmp_path) == ["step-00000001-a0"])
    assert there(tmp_path) == ["step-00000001-a0"]
    assert ["came to be other bytes than were sent" in line for line in said] == [True]


@pytest.mark.usefixtures("impatient")
def test_a_row_that_cannot_be_read_now_costs_no_checkpoint_its_copy(
    address, folder, tmp_path, monkeypatch
):
    """As what another user has evaluated, until the right to read it is given."""
    refused, whole = folder.root / "evaluation.txt", io.open
    refused.write_text("a score")

    def opened(path, *more, **options):  # root reads whatever there is
        if str(path) == str(refused):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return whole(path, *more, **options)

    said: list[str] = []
    with monkeypatch.context() as patched:
        for name in ("builtins.open", "io.open"):
            patched.setattr(name, opened)
        mirroring = Mirroring(address, folder, every_s=0.01, say=said.append)
        with mirroring:
            mirroring.offer(saved(folder, 1, permanent=True))
            wait_for(lambda: bool(said))
            patched.undo()
            wait_for(lambda: there(tmp_path) == ["step-00000001-a0"])
    assert "give this user the right to read it" in said[0]


@pytest.mark.parametrize("permanent", [True, False])
def test_an_attempt_is_told_of_with_what_it_begins_from(address, folder, tmp_path, permanent):
    """A rollback while an older checkpoint waits: else nobody could begin the attempt there."""
    parent = saved(folder, 1, permanent=permanent)
    waiting = saved(folder, 2)
    begin_attempt(folder.lineage, AttemptStart(1, 1, parent.name, "a rollback"))
    mirror = Mirror(address, folder, say=print)
    mirror.publish(waiting, waiting.name)
    assert there(tmp_path) == [parent.name, waiting.name]
    assert '"attempt": 1' in (tmp_path / "mirror" / "run" / "lineage.jsonl").read_text()
    for step in (3, 4):
        path = saved(folder, step)
        mirror.publish(path, path.name)
    assert parent.name in there(tmp_path), "the attempt has no checkpoint yet"
    assert bring_back(address, RunFolder(tmp_path / "other"), say=lambda _: None)
    other = RunFolder(tmp_path / "other")
    assert bring_checkpoint(address, other, name=parent.name, say=lambda _: None)
    assert verify_checkpoint(other.checkpoints / parent.name).step == 1


def test_rows_that_came_from_a_mirror_tell_of_no_checkpoint_that_is_lost(address, folder, tmp_path):
    """A machine that is gone after a rollback of the first stage, before its first copy."""
    waiting = saved(folder, 1)
    begin_attempt(folder.lineage, AttemptStart(1, 0, None, "a rollback"))
    later = Payment(0, 1.0, 30, checkpoint="step-00000001-a1")
    record_payment(folder.spending, later)
    Mirror(address, folder, say=print).publish(waiting, waiting.name)
    assert has_lost_checkpoints(folder)
    other = RunFolder(tmp_path / "other")
    other.create()
    assert bring_back(address, other, say=lambda _: None)
    assert other.spending.read_text() == folder.spending.read_text()
    assert current_attempt(other.lineage) == 1
    assert not has_lost_checkpoints(other)
    record_payment(other.spending, later)  # the attempt's own, on that machine
    assert has_lost_checkpoints(other)


def test_a_checkpoint_that_was_brought_and_is_gone_again_is_lost(address, folder, tmp_path):
    """Before the machine has done a step that could name another."""
    waiting = saved(folder, 1)
    begin_attempt(folder.lineage, AttemptStart(0, 0, None, "a test"))
    Mirror(address, folder, say=print).publish(waiting, waiting.name)
    other = RunFolder(tmp_path / "other")
    other.create()
    assert bring_back(address, other, say=lambda _: None)
    assert not has_lost_checkpoints(other)
    shutil.rmtree(other.checkpoints / waiting.name)
    assert has_lost_checkpoints(other)


def test_the_rows_that_came_are_on_the_disk_before_the_lineage_is(
    address, folder, tmp_path, monkeypatch
):
    """Else a power failure leaves a run without the rows that its checkpoint goes with."""
    record_payment(folder.spending, Payment(0, 1.0, 30))
    path = saved(folder, 1)
    Mirror(address, folder, say=print).publish(path, path.name)
    other = RunFolder(tmp_path / "other")
    other.create()
    named_at_syncs, sync = [], os.fsync

    def fsync(handle: int) -> None:
        if os.path.samestat(os.fstat(handle), other.root.stat()):
            named_at_syncs.append({path.name for path in other.root.glob("*.jsonl")})
        sync(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    assert bring_back(address, other, say=lambda _: None)
    assert named_at_syncs[-2:] == [{"spending.jsonl"}, {"spending.jsonl", "lineage.jsonl"}]


def test_a_damaged_old_manifest_there_is_told_once_and_stops_nothing(address, folder, tmp_path):
    said: list[str] = []
    mirror = Mirror(address, folder, say=said.append)
    for step in range(1, 6):
        path = saved(folder, step)
        mirror.publish(path, path.name)
        if step == 2:
            (tmp_path / "mirror/checkpoints/step-00000001-a0/manifest.json").write_text("{")
    assert there(tmp_path) == [f"step-0000000{step}-a0" for step in (1, 4, 5)]
    assert len(said) == 1
    assert "step-00000001-a0/manifest.json at the address is no manifest" in said[0]


@pytest.mark.usefixtures("impatient")
def test_a_file_that_goes_before_it_is_copied_is_no_fault_of_the_address(folder, tmp_path):
    fsspec.register_implementation("rolling", Rolling, clobber=True)
    (folder.root / "a.txt").write_text("before b")
    (folder.root / "b.txt").write_text("goes")
    Rolling.happens = (folder.root / "b.txt").unlink
    said: list[str] = []
    address = f"rolling://{tmp_path}/mirror"
    with Mirroring(address, folder, every_s=0.01, say=said.append) as mirroring:
        mirroring.offer(saved(folder, 1))
        wait_for(lambda: len(there(tmp_path)) == 1)
    assert said == [f"mirror: {folder.root}/b.txt was gone before it could be copied"]


class Rolling(Odd):
    """A storage that is still taking rows when something happens to the run."""

    protocol = "rolling"
    happens: Callable[[], None] | None = None

    def put_file(self, path1, path2, callback=None, **kwargs):
        super().put_file(path1, path2, **kwargs)
        if path2.endswith("a.txt") and Rolling.happens is not None:
            happens, Rolling.happens = Rolling.happens, None
            happens()
        if path2.endswith("lineage.jsonl") and '"attempt": 1' in Path(path1).read_text():
            assert there(Path(path2).parents[2]) == ["step-00000001-a0"]


def test_an_attempt_that_begins_while_rows_are_copied_waits_for_what_it_begins_from(
    folder, tmp_path
):
    fsspec.register_implementation("rolling", Rolling, clobber=True)
    (folder.root / "a.txt").write_text("before the lineage")
    parent, waiting = saved(folder, 1, permanent=True), saved(folder, 2)
    start = AttemptStart(1, 1, parent.name, "a rollback")
    Rolling.happens = lambda: begin_attempt(folder.lineage, start)
    Mirror(f"rolling://{tmp_path}/mirror", folder, say=print).publish(waiting, waiting.name)
    assert there(tmp_path) == [parent.name, waiting.name]
    assert '"attempt": 1' in (tmp_path / "mirror" / "run" / "lineage.jsonl").read_text()


class Slow(Odd):
    """A storage that takes 2.99 s over each checkpoint, by a clock of its own."""

    protocol = "slow"
    now_s = 0.0
    begun: list[float] = []  # noqa: RUF012  (of all instances: one is made for each thread)

    @staticmethod
    def monotonic() -> float:
        return Slow.now_s

    def put_file(self, path1, path2, callback=None, **kwargs):
        if path2.endswith("model.safetensors"):
            Slow.begun.append(Slow.now_s)
            Slow.now_s += 2.99
        super().put_file(path1, path2, **kwargs)


def test_a_copy_is_due_so_long_after_the_one_before_began(folder, tmp_path, monkeypatch):
    """Else a lost machine costs the time of a copy more than the settings say."""
    fsspec.register_implementation("slow", Slow, clobber=True)
    monkeypatch.setattr(room, "time", Slow)
    Slow.begun.clear()
    Slow.now_s = 0.0
    with Mirroring(f"slow://{tmp_path}/mirror", folder, every_s=3.0, say=print) as mirroring:
        mirroring.offer(saved(folder, 1))
        wait_for(lambda: len(there(tmp_path)) == 1)
        mirroring.offer(saved(folder, 2))
        mirroring._thread.join(0.1)  # it looks ten times
        assert Slow.begun == [0.0]
        Slow.now_s = 3.0
        wait_for(lambda: len(there(tmp_path)) == 2)
    assert Slow.begun == [0.0, 3.0]


def test_a_copy_may_be_due_later_than_a_thread_can_wait(address, folder, tmp_path):
    """The thread ended without a word, and nothing was copied any more."""
    with Mirroring(address, folder, every_s=1e10, say=print) as mirroring:
        mirroring.offer(saved(folder, 1))
        wait_for(lambda: there(tmp_path) == ["step-00000001-a0"])
        mirroring.offer(saved(folder, 2))
        mirroring._thread.join(0.3)
        mirroring.offer(saved(folder, 3, permanent=True))
        wait_for(lambda: "step-00000003-a0" in there(tmp_path))


@pytest.mark.usefixtures("impatient")
def test_keys_that_expire_end_no_copying(address, folder, tmp_path, monkeypatch):
    """Else the rest of a long run would be on this machine alone."""
    monkeypatch.setattr(room, "_LONGEST_WAIT_S", 0.01)
    said: list[str] = []
    with Mirroring(address, folder, every_s=0.01, say=said.append) as mirroring:
        mirroring.offer(saved(folder, 1))
        wait_for(lambda: there(tmp_path) == ["step-00000001-a0"])
        Odd.faults[:] = [PermissionError(403, "Forbidden") for _ in range(3)]
        mirroring.offer(saved(folder, 2))
        wait_for(lambda: "step-00000002-a0" in there(tmp_path))
    assert ["Forbidden" in line for line in said] == [True]


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("failures", [2, 3])
def test_the_last_checkpoint_is_tried_as_often_as_the_last_rows(
    address, folder, tmp_path, failures
):
    said: list[str] = []
    with Mirroring(address, folder, every_s=3600, say=said.append) as mirroring:
        mirroring.offer(saved(folder, 1))
        wait_for(lambda: there(tmp_path) == ["step-00000001-a0"])
        Odd.faults[:] = [OSError(503, "Busy") for _ in range(failures)]
        mirroring.offer(saved(folder, 2))
    told = "mirror: step-00000002-a0 is not copied, and is in the run folder alone"
    assert ("step-00000002-a0" in there(tmp_path)) is (failures == 2)
    assert (told in said) is (failures == 3)
    assert not list(folder.checkpoints.glob(".tmp-*"))


def test_an_older_folder_copies_nothing_over_what_another_machine_has_added(
    address, folder, tmp_path
):
    """Also where the storage did not answer when the run went on."""
    record_payment(folder.spending, Payment(0, 1.0, 30))
    first = saved(folder, 1)
    Mirror(address, folder, say=print).publish(first, first.name)
    other = RunFolder(tmp_path / "other")
    other.create()
    assert bring_back(address, other, say=lambda _: None)
    for run in (other, folder):
        record_payment(run.spending, Payment(1, 1.0, 60))
    record_payment(other.spending, Payment(1, 2.0, 90))
    theirs = saved(other, 3)
    Mirror(address, other, say=print).publish(theirs, theirs.name)
    before = {path: path.read_bytes() for path in (tmp_path / "mirror").rglob("*.*")}
    said: list[str] = []
    with Mirroring(address, folder, every_s=0.01, say=said.append) as mirroring:
        mirroring.offer(saved(folder, 2))
    mirroring.publish_ending()
    assert ["another machine has gone on with it" in line for line in said] == [True]
    assert {path: path.read_bytes() for path in (tmp_path / "mirror").rglob("*.*")} == before


def test_no_row_that_a_power_failure_may_take_here_is_there(folder, tmp_path, monkeypatch):
    """By what was spent a copy is known for the run's own; a row may be added meanwhile."""
    synced = []

    def sync(path: Path) -> None:
        synced.append(path.read_bytes())
        record_payment(path, Payment(process=0, seconds=2.0, tokens_spent=2))

    monkeypatch.setattr(mirror, "sync_file", sync)
    record_payment(folder.spending, Payment(process=0, seconds=1.0, tokens_spent=1))
    path = saved(folder, 1)
    Mirror(str(tmp_path / "mirror"), folder, say=print).publish(path, path.name)
    assert (tmp_path / "mirror" / "run" / "spending.jsonl").read_bytes() == synced[0]


@pytest.mark.parametrize("damage", ["damaged", "deleted"])
def test_a_damaged_row_of_what_was_spent_is_not_taken_for_another_machines(
    folder, tmp_path, damage
):
    address, path = str(tmp_path / "mirror"), saved(folder, 1)
    for seconds in (1.0, 2.0, 3.0):
        record_payment(folder.spending, Payment(process=0, seconds=seconds, tokens_spent=1))
    Mirror(address, folder, say=print).publish(path, path.name)
    rows = folder.spending.read_bytes().splitlines(keepends=True)
    rows[1:2] = [] if damage == "deleted" else [b"{" + rows[1]]
    folder.spending.write_bytes(b"".join(rows))
    assert mirror.other_copy(address, folder) is None
    folder.spending.write_bytes(b"".join(rows[:-1]))
    told = mirror.other_copy(address, folder)
    assert told is not None
    assert f"Or {folder.spending} has lost its last rows" in told
