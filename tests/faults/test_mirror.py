"""A run's copy elsewhere: it comes back from it bit for bit, whatever the storage does."""

import os
import re
import shutil
import signal
import threading
from collections.abc import Callable
from pathlib import Path

import fsspec
import pytest
from fsspec.implementations.local import LocalFileSystem

from tests.faults.harness import KILLED, assert_ends_like, names, run_with
from tests.train.world import STAGES, STEPS, World, finished_world
from yxanul.errors import UsageError
from yxanul.runfolder.bringing import bring_back
from yxanul.runfolder.checkpoints import verify_checkpoint
from yxanul.runfolder.layout import RunFolder
from yxanul.runfolder.lineage import AttemptStart, begin_attempt
from yxanul.runfolder.mirror import Mirror, refuse_own_folder
from yxanul.runfolder.spending import Payment, read_payments, record_payment
from yxanul.runfolder.verdicts import read_verdicts, write_override
from yxanul.train.outward import mirroring as room
from yxanul.train.outward.mirroring import Mirroring


class Moody(LocalFileSystem):
    """A folder of this machine that answers as storages do on a bad day."""

    protocol = "moody"
    mood = "well"
    calls = 0
    spared = 1  # the trial of a run that begins
    then: Callable[[], None] | None = None
    """What is done once a checkpoint is there whole."""

    @classmethod
    def _strip_protocol(cls, path):
        return super()._strip_protocol(str(path).removeprefix("moody://"))

    def info(self, path, **kwargs):
        if Moody.mood in ("busy", "busy once"):
            Moody.mood = "well" if Moody.mood == "busy once" else Moody.mood
            raise OSError(429, "Too Many Requests")
        return super().info(path, **kwargs)

    def put_file(self, path1, path2, callback=None, **kwargs):
        Moody.calls += 1
        mood = Moody.mood if Moody.calls > Moody.spared else "well"
        if mood == "half" and Moody.calls % 2:
            raise OSError(429, "Too Many Requests")
        if mood == "refuses":
            raise PermissionError(401, "Unauthorized")
        if mood == "gone":
            raise FileNotFoundError(404, "Not Found")
        super().put_file(path1, path2, **kwargs)
        if mood == "flips" and path2.endswith("model.safetensors"):
            content = bytearray(Path(path2).read_bytes())
            content[-1] ^= 1
            Path(path2).write_bytes(content)
        if Moody.then is not None and path2.endswith("manifest.json"):
            then, Moody.then = Moody.then, None
            then()


@pytest.fixture
def moody(tmp_path):
    fsspec.register_implementation("moody", Moody, clobber=True)
    Moody.mood, Moody.calls, Moody.spared, Moody.then = "well", 0, 1, None
    return f"moody://{tmp_path}/mirror"


def to(address: str) -> tuple[str, ...]:
    return ("--set", f"checkpoint.mirror={address}", "--set", "checkpoint.mirror_every_s=0.01")


@pytest.mark.fault(33)
@pytest.mark.parametrize("mood", [pytest.param("half", marks=pytest.mark.slow), "flips"])
def test_a_storage_that_fails_half_of_the_time_delays_nothing_but_the_copy(
    world, unbroken, moody, mood
):
    Moody.mood = mood
    told = world.finish("run", "run", *to(moody)).stderr
    assert told.count("mirror:") >= 1
    assert_ends_like(world, unbroken)


@pytest.mark.fault(33)
@pytest.mark.parametrize("mood", ["refuses", pytest.param("gone", marks=pytest.mark.slow)])
def test_a_storage_that_lets_nobody_in_is_told_once(world, unbroken, moody, mood):
    Moody.mood = mood
    told = world.finish("run", "run", *to(moody)).stderr
    _, last = (line for line in told.splitlines() if "check the address" in line)
    assert "last rows" in last
    assert told.count("is not copied, and is in the run folder alone") == len(STAGES)
    assert Moody.calls <= Moody.spared + 6, "no storm of tries"
    assert_ends_like(world, unbroken)


@pytest.mark.fault(33)
def test_a_storage_that_lets_nobody_in_is_told_before_a_run_begins(world, moody):
    """It shows no files, and what the run trains would be on this machine alone."""
    Moody.mood, Moody.spared = "refuses", 0
    assert "check the address" in world.finish("run", "run", *to(moody), code=30).stderr
    assert not (world.root / "run" / "lineage.jsonl").exists()


@pytest.mark.fault(33)
def test_a_run_is_not_begun_over_its_copy_where_the_storage_does_not_answer(world, moody, tmp_path):
    world.finish("run", "run", "--max_steps", "2", *to(moody))
    shutil.rmtree(world.root / "run")
    before = {path: path.read_bytes() for path in (tmp_path / "mirror").rglob("*.*")}
    Moody.mood = "busy"
    assert "Too Many" in world.finish("run", "run", *to(moody), code=11).stderr
    after = {path: path.read_bytes() for path in (tmp_path / "mirror").rglob("*.*")}
    assert after == before
    Moody.mood = "well"
    assert "going on from" in world.finish("run", "run", "--max_steps", "3", *to(moody)).stderr


@pytest.mark.fault(34)
def test_a_run_whose_machine_is_gone_goes_on_from_its_copy(world, unbroken, tmp_path):
    address = str(tmp_path / "mirror")
    run_with(world, "step.updated=kill@13", *to(address), code=KILLED)
    shutil.rmtree(world.root / "run")
    told = world.finish("run", "run", *to(address)).stderr
    assert f"{address} holds a run, which is brought to" in told
    assert "going on from" in told
    assert_ends_like(world, unbroken)
    kept = names(Path(address) / "checkpoints")
    # The last of each stage for good, and no more than two others.
    assert {"step-00000008-a0", "step-00000016-a0"} <= set(kept)
    assert len(kept) <= 4


@pytest.mark.fault(16)
def test_a_run_whose_checkpoints_are_gone_goes_on_from_its_copy(world, unbroken, tmp_path):
    address = str(tmp_path / "mirror")
    run_with(world, "step.updated=kill@13", *to(address), code=KILLED)
    run = RunFolder(world.root / "run")
    shutil.rmtree(run.checkpoints)
    spent = run.spending.read_text()
    told = world.finish("run", "run", *to(address)).stderr
    assert "is here, every byte compared" in told
    assert "going on from" in told
    assert run.spending.read_text().startswith(spent), "what was spent is no older copy's"
    assert_ends_like(world, unbroken)


@pytest.mark.slow
@pytest.mark.fault(16)
def test_a_later_stage_whose_checkpoints_are_gone_goes_on_from_its_copy(world, tmp_path):
    address = str(tmp_path / "mirror")
    world.finish("train", "run", "--stage", STAGES[0], *to(address))
    shutil.rmtree(world.root / "run" / "checkpoints")
    told = world.finish("train", "run", "--stage", STAGES[1], *to(address)).stderr
    assert "is here, every byte compared" in told
    assert "going on from" in told


def test_a_complete_run_without_checkpoints_brings_none(tmp_path_factory, tmp_path):
    world = finished_world(tmp_path_factory, "complete")
    folder = RunFolder(world.root / "run")
    newest = names(folder.checkpoints)[-1]
    address = str(tmp_path / "mirror")
    Mirror(address, folder, say=print).publish(folder.checkpoints / newest, newest)
    shutil.rmtree(folder.checkpoints)
    told = world.finish("run", "run", *to(address)).stderr
    assert "is complete already" in told
    assert names(folder.checkpoints) == []


@pytest.mark.fault(33)
def test_a_complete_run_brings_its_mirror_what_that_lacks(tmp_path_factory, tmp_path):
    """Else a storage that failed at the very end would never have the weights of the end."""
    world = finished_world(tmp_path_factory, "lacking")
    address = tmp_path / "mirror"
    told = world.finish("run", "run", *to(str(address))).stderr
    assert "is complete already" in told
    assert names(address / "checkpoints") == ["step-00000008-a0", "step-00000016-a0"]
    for name in ("gates.jsonl", "exit.json"):
        there, here = address / "run" / name, world.root / "run" / name
        assert there.read_bytes() == here.read_bytes()


class Hanging(LocalFileSystem):
    """A folder of this machine that answers nothing until it may."""

    protocol = "hanging"
    asked, may_answer = threading.Event(), threading.Event()

    def info(self, path, **kwargs):
        Hanging.asked.set()
        Hanging.may_answer.wait(60)
        return super().info(path, **kwargs)


@pytest.mark.fault(33)
def test_who_stops_a_complete_run_does_not_wait_for_its_mirror(
    tmp_path_factory, tmp_path, monkeypatch
):
    fsspec.register_implementation("hanging", Hanging, clobber=True)
    monkeypatch.setattr(room, "_LONGEST_END_S", 100.0)
    world = finished_world(tmp_path_factory, "stopped")
    before = world.exit_record("run")["outcome"]["steps"]

    def stop() -> None:
        Hanging.asked.wait(60)
        os.kill(os.getpid(), signal.SIGINT)

    person = threading.Thread(target=stop)
    # A signal that the run does not take is this test's failure, and no end of pytest.
    missed: list[int] = []
    before_it = signal.signal(signal.SIGINT, lambda number, _: missed.append(number))
    person.start()
    try:
        told = world.finish("run", "run", *to(f"hanging://{tmp_path}/mirror")).stderr
    finally:
        person.join()
        Hanging.may_answer.set()
        signal.signal(signal.SIGINT, before_it)
    assert "is complete already" in told
    assert re.search(r"did not take all checkpoints within \d{1,2} s", told)
    assert not missed
    record = world.exit_record("run")
    assert (record["code"], record["outcome"]["steps"]) == (0, before)


@pytest.mark.slow
@pytest.mark.fault(34)
def test_files_without_their_manifest_are_no_checkpoint(world, unbroken, tmp_path):
    address = tmp_path / "mirror"
    run_with(world, "mirror.files=kill@2", *to(str(address)), code=KILLED)
    whole = [path.parent.name for path in (address / "checkpoints").glob("*/manifest.json")]
    assert len(whole) == 1
    assert len(names(address / "checkpoints")) == 2
    shutil.rmtree(world.root / "run")
    assert f"{whole[0]} is here" in world.finish("run", "run", *to(str(address))).stderr
    assert_ends_like(world, unbroken)


@pytest.mark.slow
@pytest.mark.fault(34)
def test_a_kill_on_the_way_back_begins_the_way_again(world, unbroken, tmp_path):
    address = str(tmp_path / "mirror")
    world.finish("run", "run", *to(address))
    shutil.rmtree(world.root / "run")
    run_with(world, "mirror.bringing=kill@3", *to(address), code=KILLED)
    assert not (world.root / "run" / "lineage.jsonl").exists()
    told = world.finish("run", "run", *to(address)).stderr
    assert "is complete already" in told
    assert_ends_like(world, unbroken)


def test_a_later_stage_behind_an_empty_mirror_needs_weights(world, tmp_path):
    more = ("--stage", STAGES[1], *to(str(tmp_path / "mirror")))
    assert "needs the weights of" in world.finish("train", "run", *more, code=30).stderr


@pytest.mark.slow
@pytest.mark.fault(34)
def test_a_copy_that_was_damaged_is_named_and_the_one_before_is_brought(world, unbroken, tmp_path):
    address = tmp_path / "mirror"
    world.finish("run", "run", *to(str(address)))
    newest = sorted((address / "checkpoints").glob("step-*"))[-1] / "model.safetensors"
    content = bytearray(newest.read_bytes())
    content[99] ^= 1
    newest.write_bytes(content)
    shutil.rmtree(world.root / "run")
    told = world.finish("run", "run", *to(str(address))).stderr
    assert "not used:" in told
    assert "sha256 differs" in told
    assert_ends_like(world, unbroken)


@pytest.mark.slow
def test_an_address_of_another_run_is_refused_for_a_fresh_one(world: World, tmp_path):
    address = str(tmp_path / "mirror")
    world.finish("run", "run", "--max_steps", "2", *to(address))
    told = world.finish("run", "other", "--fresh", *to(address), code=30).stderr
    assert "holds a run already" in told
    # Nor for one that begins again where its checkpoints were deleted: they lie there still.
    shutil.rmtree(world.root / "run" / "checkpoints")
    told = world.finish("run", "run", "--resume", "never", *to(address), code=30).stderr
    assert "holds a run already" in told
    more = ("--set", "seed=9")
    assert "other settings" in world.finish("run", "third", *more, *to(address), code=30).stderr


@pytest.mark.fault(16)
def test_an_attempt_that_its_mirror_lacks_too_begins_again_from_what_lies_there(world, tmp_path):
    address = tmp_path / "mirror"
    world.finish("run", "run", "--max_steps", "6", *to(str(address)))
    parent = world.checkpoints("run")[0].name
    world.finish("run", "run", "--resume", parent, "--max_steps", "6", *to(str(address)))
    shutil.rmtree(world.root / "run" / "checkpoints")
    for path in (address / "checkpoints").glob("step-*-a1"):
        shutil.rmtree(path)
    told = world.finish("run", "run", *to(str(address)), code=31).stderr
    assert "begin that attempt again with --resume never" in told
    again = ("--resume", "never", "--max_steps", "6")
    told = world.finish("run", "run", *again, *to(str(address))).stderr
    assert f"{parent} is brought back from" in told
    assert [path.name[-2:] for path in world.checkpoints("run")][-1] == "a1"


def test_a_run_that_was_begun_by_name_goes_on_by_the_same_command_elsewhere(world, tmp_path):
    more = ("--max_steps", "6", *to(str(tmp_path / "mirror")))
    world.finish("run", "run", *more)
    named = ("--resume", world.checkpoints("run")[0].name)
    world.finish("run", "run", *named, *more)
    shutil.rmtree(world.root / "run")
    told = world.finish("run", "run", *named, *more).stderr
    assert "the run has gone on from there already" in told
    assert [path.name for path in world.checkpoints("run")] == ["step-00000006-a1"]


@pytest.mark.fault(34)
def test_a_checkpoint_that_is_named_is_brought_to_another_machine(world, tmp_path):
    address, run = str(tmp_path / "mirror"), RunFolder(world.root / "run")
    more = ("--max_steps", "6", *to(address))
    world.finish("run", "run", *more)
    older, newest = (path.name for path in world.checkpoints("run"))
    # A newer one may have taken its place before it was copied.
    Mirror(address, run, say=print).publish(run.checkpoints / older, older)
    shutil.rmtree(world.root / "run")
    told = world.finish("run", "run", "--resume", older, *more).stderr
    assert f"{older} is brought back from" in told
    here = [path.name for path in world.checkpoints("run")]
    assert here == [older, newest, "step-00000006-a1"]
    shutil.rmtree(world.root / "run")
    told = world.finish("run", "run", "--resume", "step-00000001-a0", *more, code=30).stderr
    assert "there is no such checkpoint" in told


def test_names_at_an_address_lead_nowhere_else(world: World, tmp_path):
    address = "memory://bucket/run"
    storage = fsspec.filesystem("memory")
    storage.store.clear()
    world.finish("run", "run", "--max_steps", "2", *to(address))
    proof = tmp_path / "proof"
    for name in ("../proof", f"/{proof}", "a/../../../proof", ".lock", "data/manifest.json"):
        with storage.open(f"/bucket/run/run/{name}", "wb") as file:
            file.write(b"planted")
    before = {path for path in tmp_path.rglob("*") if path.is_file()}
    assert bring_back(address, RunFolder(tmp_path / "run"), say=print)
    new = {path for path in tmp_path.rglob("*") if path.is_file()} - before
    assert all(path.is_relative_to(tmp_path / "run") for path in new)
    assert not [path for path in new if path.read_bytes() == b"planted"]
    storage.store.clear()


@pytest.mark.parametrize(
    ("mirror", "out"),
    [
        ("run", "run"),
        ("file://{}/run/mirror", "run"),
        ("link/mirror", "run"),
        (".", "run"),
        ("mirror", "mirror/checkpoints/run"),
    ],
)
def test_a_mirror_within_the_run_folder_is_refused(tmp_path, mirror, out):
    (tmp_path / "link").symlink_to("run")
    address = mirror.format(tmp_path) if "{}" in mirror else str(tmp_path / mirror)
    with pytest.raises(UsageError, match=f"checkpoint.mirror {address} and the run folder"):
        refuse_own_folder(address, RunFolder(tmp_path / out))


def test_a_run_is_not_begun_with_a_mirror_within_its_folder(world):
    inside = world.root / "run" / "mirror"
    assert "lie in one another" in world.finish("run", "run", *to(str(inside)), code=30).stderr
    assert RunFolder(world.root / "run").is_empty()


def test_a_copy_that_lies_in_the_run_folder_by_now_is_to_be_taken_out_of_it(tmp_path):
    """It would go to every other mirror as rows of the run's."""
    inside = tmp_path / "run" / "mirror"
    (inside / "run").mkdir(parents=True)
    with pytest.raises(UsageError, match=f"delete or move the copy that lies at {inside}$"):
        refuse_own_folder(str(inside), RunFolder(tmp_path / "run"))


def test_a_mirror_beside_the_run_folder_and_above_it_is_none_within_it(tmp_path):
    for mirror in ("run-mirror", "mirror", "."):
        refuse_own_folder(str(tmp_path / mirror), RunFolder(tmp_path / "mine"))
    refuse_own_folder("memory://run/mirror", RunFolder(tmp_path / "run"))


def test_rows_that_no_checkpoint_there_goes_with_stay_here(world: World, tmp_path):
    """A run that ends right after a rollback: its mirror knows nothing of the new attempt."""
    address = str(tmp_path / "mirror")
    world.finish("run", "run", "--max_steps", "10", *to(address))
    folder = RunFolder(world.root / "run")
    parent = names(folder.checkpoints)[-1]
    begin_attempt(folder.lineage, AttemptStart(1, 10, parent, "a rollback"))
    there = Path(address) / "run"
    before = (there / "lineage.jsonl").read_bytes()
    Mirror(address, folder, say=print).publish_ending()
    assert (there / "lineage.jsonl").read_bytes() == before
    assert (there / "exit.json").is_file()
    shutil.rmtree(folder.root)
    assert "going on from" in world.finish("run", "run", *to(address)).stderr


@pytest.mark.parametrize(
    ("mood", "words"),
    [
        ("refuses", "Unauthorized"),
        pytest.param("half", "Too Many", marks=pytest.mark.slow),
    ],
)
def test_last_words_that_cannot_be_brought_are_told(world: World, moody, mood, words):
    world.finish("run", "run", "--max_steps", "3", *to(moody))
    said: list[str] = []
    mirroring = Mirroring(moody, RunFolder(world.root / "run"), every_s=0.01, say=said.append)
    Moody.mood = mood
    mirroring.publish_ending()
    assert [words in line for line in said] == [True]


@pytest.mark.fault(34)
def test_an_older_folder_does_not_go_on_over_what_another_machine_has_trained(world, tmp_path):
    """A machine that was stopped with its disk, and is started again when another is gone."""
    address = tmp_path / "mirror"
    world.finish("run", "run", "--max_steps", "2", *to(str(address)))
    world.finish("run", "other", "--max_steps", "4", *to(str(address)))
    world.finish("run", "third", "--max_steps", "1")
    before = {path: path.read_bytes() for path in address.rglob("*.*")}
    for out in ("run", "third"):
        told = world.finish("run", out, "--max_steps", "3", *to(str(address)), code=30).stderr
        assert "Another --out goes on from there" in told
    assert {path: path.read_bytes() for path in address.rglob("*.*")} == before
    world.finish("run", "other", "--max_steps", "5", *to(str(address)))


@pytest.mark.fault(34)
@pytest.mark.parametrize("goes_on_at", ["its first copy", "a later one"])
def test_a_run_ends_where_another_machine_has_gone_on_with_it(world, moody, tmp_path, goes_on_at):
    """One that was thought gone, and was cut off from the network only: both would be paid for."""
    theirs = tmp_path / "mirror" / "run" / "spending.jsonl"

    def go_on() -> None:
        record_payment(theirs, Payment(process=9, seconds=1.0, tokens_spent=1))

    many = ("--set", "training.total_tokens=10000000", "--set", "checkpoint.every_steps=1")
    if goes_on_at == "a later one":
        Moody.then = go_on
    else:
        world.finish("run", "run", "--max_steps", "1", *many, *to(moody))
        go_on()
        Moody.mood = "busy once"  # when the run is started
    said = world.finish("run", "run", "--max_steps", "1000", *many, *to(moody), code=30).stderr
    assert said.count("another machine has gone on with it") == 2, "when it is seen, and at the end"
    record = world.exit_record("run")
    assert record["code"] == 30
    newest = world.checkpoints("run")[-1]
    assert f"is saved up to step {int(newest.name[5:13])}" in record["reason"]
    verify_checkpoint(newest)
    assert [row.process for row in read_payments(theirs)][-1] == 9


@pytest.mark.fault(34)
def test_a_folder_that_has_lost_what_it_copied_last_goes_on_with_its_copy(world, tmp_path):
    address = str(tmp_path / "mirror")
    world.finish("run", "run", "--max_steps", "4", *to(address))
    (world.checkpoints("run")[-1] / "model.safetensors").write_bytes(b"")
    told = world.finish("run", "run", "--max_steps", "5", *to(address)).stderr
    assert "falling back to the checkpoint before" in told
    assert names(Path(address) / "checkpoints")[-1] == "step-00000005-a0"


def test_a_decision_that_came_too_late_is_told_once(world, tmp_path):
    address = tmp_path / "mirror"
    world.finish("run", "run", "--max_steps", str(STEPS + 1), *to(str(address)))
    copy = RunFolder(address / "run")
    judged = read_verdicts(copy)[STAGES[0]]
    write_override(copy, judged, decided="extend", by="Ada", reason="it still falls")
    told = world.finish("run", "run", "--max_steps", str(STEPS + 2), *to(str(address))).stderr
    assert told.count("what Ada decided on the gate") == 1
    assert copy.gates.read_bytes() == RunFolder(world.root / "run").gates.read_bytes()


@pytest.mark.fault(33)
@pytest.mark.parametrize("mood", ["busy", "refuses"])
def test_a_run_that_has_begun_goes_on_without_its_storage(world, moody, mood):
    world.finish("run", "run", "--max_steps", "2", *to(moody))
    Moody.mood, Moody.spared = mood, 0
    told = world.finish("run", "run", "--max_steps", "3", *to(moody)).stderr
    assert "mirror:" in told
    assert world.checkpoints("run")[-1].name == "step-00000003-a0"
