"""A stage is added to a prepared folder whole or not at all, and the stages there stay in use."""

import errno
import fcntl
import json
import os
import platform
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from tests.data.memory import MemorySource, all_bytes, plan, prepare_plans, sentences
from yxanul.data import progress
from yxanul.data.document import Document
from yxanul.data.inspection.inspect import Questions, inspect_folder
from yxanul.data.prepared.manifest import load_manifest, write_manifest
from yxanul.data.prepared.unfinished import load_unfinished
from yxanul.data.prepared.verify import verify
from yxanul.data.prepared.workspace import workspace
from yxanul.data.preparing import build
from yxanul.data.preparing.build import prepare_sources
from yxanul.data.preparing.pipeline import Effort, PlannedSource
from yxanul.data.sources.catalog import open_folder
from yxanul.errors import CorruptShardError, DiskError, StoppedOnRequest, UsageError

ROOT = Path(__file__).parents[2]


def first_stage() -> list[PlannedSource]:
    texts = [*sentences(90), "one short text"]
    return [plan(MemorySource("a", texts), stage="one", min_tokens=6)]


def second_stage() -> list[PlannedSource]:
    # Half of b1 is in the first stage; the short text was dropped there, so it is new here.
    b1 = MemorySource("b1", [*sentences(40), *sentences(60, about="tree"), "one short text"])
    b2 = MemorySource("b2", [*sentences(80, about="lake"), *sentences(20, about="tree")])
    return [plan(b1, stage="two"), plan(b2, stage="two")]


def third_stage() -> list[PlannedSource]:
    return [plan(MemorySource("c", sentences(70, about="cloud")), stage="three")]


def test_stages_one_by_one_give_the_bytes_of_all_at_once(tmp_path: Path) -> None:
    one, two, three = first_stage(), second_stage(), third_stage()
    prepare_plans(tmp_path / "once", plans=[*one, *two, *three])
    prepare_plans(tmp_path / "steps", plans=one)
    prepare_plans(tmp_path / "steps", plans=[*one, *two])
    manifest = prepare_plans(tmp_path / "steps", plans=three)
    assert all_bytes(tmp_path / "steps") == all_bytes(tmp_path / "once")
    assert manifest.sources["a"].dropped == {"too_short": 1}
    assert manifest.sources["b1"].dropped == {"duplicate": 40}
    assert manifest.sources["b2"].dropped == {"duplicate": 20}
    verify(manifest, tmp_path / "steps")


def test_a_folder_that_holds_more_is_used_as_it_is(tmp_path: Path) -> None:
    both = prepare_plans(tmp_path, plans=[*first_stage(), *second_stage()])
    before = all_bytes(tmp_path)
    assert prepare_plans(tmp_path, plans=second_stage()) == both
    assert prepare_plans(tmp_path, plans=first_stage()) == both
    assert all_bytes(tmp_path) == before


def test_a_source_of_a_stage_that_is_there_is_not_taken_again(tmp_path: Path) -> None:
    prepare_plans(tmp_path, plans=first_stage())
    before = all_bytes(tmp_path)
    again = plan(MemorySource("a", sentences(60, about="tree")), stage="two")
    with pytest.raises(UsageError, match="a is in one and in two"):
        prepare_plans(tmp_path, plans=[again])
    assert all_bytes(tmp_path) == before


def test_adding_to_a_folder_that_lost_a_file_is_refused(tmp_path: Path) -> None:
    prepare_plans(tmp_path, plans=first_stage())
    (tmp_path / "a/train-00001.bin").unlink()
    with pytest.raises(CorruptShardError, match=r"a/train-00001\.bin is missing"):
        prepare_plans(tmp_path, plans=second_stage())


def test_foreign_files_where_a_stage_is_to_go_are_left_alone(tmp_path: Path) -> None:
    prepare_plans(tmp_path, plans=first_stage())
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "b1").mkdir()
    (tmp_path / "b1/train.documents.jsonl").write_bytes(b"precious")
    before = all_bytes(tmp_path)
    with pytest.raises(UsageError, match="holds b1, which `yxanul prepare` did not write"):
        prepare_plans(tmp_path, plans=second_stage())
    assert all_bytes(tmp_path) == before
    prepare_plans(tmp_path, plans=third_stage())


KILLED = """
import sys, time
from pathlib import Path
from tests.data.memory import MemorySource, plan, prepare_plans
from tests.data.test_prepare_adding import second_stage

class Endless(MemorySource):
    def _documents(self):
        yield from super()._documents()
        print("ready", flush=True)
        time.sleep(600)

# More than a batch of text, so that shards are begun.
long = [f"{n} " + "river " * 10_000 for n in range(30)]
plans = [*second_stage(), plan(Endless("b3", long), stage="two")]
prepare_plans(Path(sys.argv[1]), plans=plans, shard_tokens=50_000)
"""


def kill_while_adding(out: Path) -> None:
    """Add the second stage in a process of its own, and kill -9 it in the midst of a source."""
    path = os.pathsep.join([str(ROOT), str(ROOT / "src")])
    with subprocess.Popen(
        [sys.executable, "-c", KILLED, str(out)],
        env={**os.environ, "PYTHONPATH": path},
        stdout=subprocess.PIPE,
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
        finally:
            process.kill()
    assert process.returncode == -signal.SIGKILL


def test_a_kill_while_adding_leaves_the_old_stages_in_use(tmp_path: Path) -> None:
    out = tmp_path / "out"
    old = prepare_plans(out, plans=first_stage())
    before = all_bytes(out)
    kill_while_adding(out)
    assert (out / "b1/train-00000.bin").exists()
    assert list((out / "b3").glob("*.tmp"))
    # The old stage is as it was, and is used with the leftovers beside it.
    assert load_manifest(out) == old
    verify(old, out)
    assert inspect_folder(out, Questions(verify=True)).verified
    assert prepare_plans(out, plans=first_stage()) == old
    assert before.items() <= all_bytes(out).items()
    # A stray token file is still found, also beside leftovers and within the stages in use.
    for stray in ("a/train-00099.bin", "x.bin"):
        (out / stray).write_bytes(b"")
        with pytest.raises(CorruptShardError, match=f"{stray} is not in the manifest"):
            verify(old, out)
        (out / stray).unlink()
    # The next one removes the leftovers and completes.
    prepare_plans(out, plans=[*first_stage(), *second_stage()])
    prepare_plans(tmp_path / "clean", plans=[*first_stage(), *second_stage()])
    assert all_bytes(out) == all_bytes(tmp_path / "clean")


def test_a_marker_that_outlived_its_manifest_removes_nothing_of_it(tmp_path: Path) -> None:
    # As a kill between the manifest and the removal of the marker leaves it.
    prepare_plans(tmp_path, plans=[*first_stage(), *second_stage()])
    before = all_bytes(tmp_path)
    (tmp_path / "preparing.json").write_text(json.dumps(["b1", "b2"]))
    verify(load_manifest(tmp_path), tmp_path)
    manifest = prepare_plans(tmp_path, plans=third_stage())
    verify(manifest, tmp_path)
    del before["manifest.json"]
    assert before.items() <= all_bytes(tmp_path).items()
    assert not (tmp_path / "preparing.json").exists()


def test_an_error_after_the_manifest_is_published_removes_nothing_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def written_then_failed(manifest: object, out: Path) -> None:
        write_manifest(manifest, out)  # type: ignore[arg-type]
        raise DiskError("the folder cannot be synced")

    monkeypatch.setattr(build, "write_manifest", written_then_failed)
    with pytest.raises(DiskError):
        prepare_plans(tmp_path, plans=first_stage())
    verify(load_manifest(tmp_path), tmp_path)


@pytest.mark.parametrize("error", [StoppedOnRequest, KeyboardInterrupt])
@pytest.mark.parametrize("lines", [1, 2, 30, 120, 200])
def test_a_stop_from_progress_leaves_the_folder_as_it_was(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    error: type[BaseException],
    lines: int,
) -> None:
    monkeypatch.setattr(progress, "_PROGRESS_S", 0.0)
    calls = 0

    def stopping(line: str) -> None:
        nonlocal calls
        calls += 1
        if calls == lines:
            raise error("stopped")

    def attempt(plans: list[PlannedSource]) -> None:
        nonlocal calls
        calls = 0
        settings = dict.fromkeys(("one", "two"), "0" * 64)
        with pytest.raises(error):
            prepare_sources(
                plans,
                tmp_path,
                settings=settings,
                progress=stopping,
                effort=Effort(shard_tokens=500),
            )

    many = plan(MemorySource("m", sentences(300, about="hill")), stage="one")
    attempt([many])
    assert all_bytes(tmp_path) == {}
    old = prepare_plans(tmp_path, plans=first_stage())
    before = all_bytes(tmp_path)
    attempt([*first_stage(), *second_stage()])
    assert all_bytes(tmp_path) == before
    verify(old, tmp_path)
    prepare_plans(tmp_path, plans=second_stage())


def test_progress_is_called_for_every_document_when_it_is_due(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines: list[str] = []
    monkeypatch.setattr(progress, "_PROGRESS_S", 0.0)
    settings = {"one": "0" * 64}
    prepare_sources(first_stage(), tmp_path, settings=settings, progress=lines.append)
    assert len(lines) == 1 + 91 + 1
    source = load_manifest(tmp_path).sources["a"]
    tokens = (source.train.tokens + source.validation.tokens) / 1000
    assert lines[-1] == (
        f"a: 90 documents, {tokens:.2f}".rstrip("0")
        + f"K tokens, 1 dropped; {source.validation.documents} documents held out"
    )


def test_progress_waits_while_it_is_not_due(tmp_path: Path) -> None:
    lines: list[str] = []
    settings = {"one": "0" * 64}
    prepare_sources(first_stage(), tmp_path, settings=settings, progress=lines.append)
    assert len(lines) <= 3


class Failing(MemorySource):
    def _documents(self) -> Iterator[Document]:
        raise DiskError("the disk is full")


def write_texts(folder: Path) -> None:
    """Write sixty texts into a new folder."""
    folder.mkdir()
    for n, text in enumerate(sentences(60)):
        (folder / f"{n:03d}.txt").write_text(text)


def of_folder(name: str, texts: Path, *, stage: str) -> PlannedSource:
    """Return the plan of a source that can be gone on with."""
    opened = partial(open_folder, texts, name=name, domain="d")
    return replace(plan(MemorySource(name, ()), stage=stage), kind="folder", open=opened)


def test_what_was_read_for_other_stages_is_not_removed(tmp_path: Path) -> None:
    out, plans = tmp_path / "out", []
    for name, of in (("one", "first"), ("two", "second")):
        (tmp_path / name).mkdir()
        for n, text in enumerate(sentences(60, about=name)):
            (tmp_path / name / f"{n:03d}.txt").write_text(text)
        plans.append(of_folder(name, tmp_path / name, stage=of))
    end = sentences(70, about="lake")
    with pytest.raises(DiskError):
        prepare_plans(out, plans=[*plans, plan(Failing("end", end), stage="second")])
    before = all_bytes(out)
    assert "two/unfinished.json" in before
    marker = out / "preparing.json"
    for text, what in (('["one", "two", "end"]', "the source two"), (marker.read_text(), "second")):
        marker.write_text(text)  # before stages stood there, and since
        with pytest.raises(
            UsageError, match=rf"read for {what}, .* another --out, or delete .*out/two$"
        ):
            prepare_plans(out, plans=plans[:1])
    assert all_bytes(out) == before
    plans.append(plan(MemorySource("end", end), stage="second"))
    prepare_plans(out, plans=plans)
    prepare_plans(tmp_path / "clean", plans=plans)
    assert all_bytes(out) == all_bytes(tmp_path / "clean")


def test_what_was_read_of_a_source_that_is_another_now_is_removed_and_told(tmp_path: Path) -> None:
    """The stage's sources were renamed, or it is read from elsewhere."""
    out, texts = tmp_path / "out", tmp_path / "texts"
    write_texts(texts)
    begun = of_folder("old", texts, stage="one")
    with pytest.raises(DiskError):
        prepare_plans(out, plans=[begun, plan(Failing("end", ()), stage="one")])
    assert (out / "old" / "unfinished.json").exists()
    now, lines, settings = [of_folder("new", texts, stage="one")], list[str](), {"one": "0" * 64}
    for folder in (out, tmp_path / "clean"):
        prepare_sources(now, folder, settings=settings, progress=lines.append)
    assert lines[0] == (
        "old: what was begun of it is removed, since no stage of these asks for it now"
    )
    assert all_bytes(out) == all_bytes(tmp_path / "clean")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("patch", "mine: read by an earlier start"),
        ("python", "since what comes before it, the items looked for, a tool or the program is"),
        ("settings", "since its stage has other settings now"),
        ("text", "since it was 60 files, .* and is 61 files, .* now"),
    ],
)
def test_what_was_begun_is_removed_for_a_reason_that_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str, told: str
) -> None:
    """Another last number of Python's version, which shapes no text of a folder, is none."""
    out, texts, lines = tmp_path / "out", tmp_path / "texts", list[str]()
    write_texts(texts)
    mine = of_folder("mine", texts, stage="one")
    with pytest.raises(DiskError):
        prepare_plans(out, plans=[mine, plan(Failing("end", ()), stage="one")])
    if change == "text":
        (texts / "a.txt").write_text("one more")
    minor = platform.python_version().rpartition(".")[0]
    now = {"patch": f"{minor}.99", "python": "3.99.0"}.get(change, platform.python_version())
    monkeypatch.setattr(platform, "python_version", lambda: now)
    settings = {"one": ("1" if change == "settings" else "0") * 64}
    effort = Effort(shard_tokens=500)
    prepare_sources([mine], out, settings=settings, progress=lines.append, effort=effort)
    assert re.search(told, lines[0])


def test_what_was_begun_is_not_known_while_an_earlier_source_is_written_anew(
    tmp_path: Path,
) -> None:
    texts, near = tmp_path / "texts", f"{sentences(30)[29]} and more"
    texts.mkdir()
    for n, text in enumerate([near, *sentences(60, about="tree")]):
        (texts / f"{n:03d}.txt").write_text(text)
    # Only the second can be gone on with, and it keeps what is nearly a text of the first.
    begin = plan(MemorySource("begin", [*sentences(30), near]), near_duplicates=0.5)
    middle = of_folder("middle", texts, stage="stage1_tests")
    out, end = tmp_path / "out", sentences(70, about="lake")
    with pytest.raises(DiskError):
        prepare_plans(out, plans=[begin, middle, plan(Failing("end", end))])
    assert (out / "middle" / "unfinished.json").exists()
    plans = [begin, middle, plan(MemorySource("end", end))]
    manifest = prepare_plans(out, plans=plans)
    assert "duplicate" not in manifest.sources["begin"].dropped
    prepare_plans(tmp_path / "clean", plans=plans)
    assert all_bytes(out) == all_bytes(tmp_path / "clean")


@pytest.mark.parametrize("content", ["{", "{}", '{"finished": {"a": 1}}', "sides"])
def test_a_damaged_record_of_how_far_a_source_was_read_says_what_is_to_be_deleted(
    tmp_path: Path, content: str
) -> None:
    if content == "sides":
        side = {"documents": 0, "tokens": 0, "bytes": 0, "index_bytes": 0, "signature_bytes": 0}
        sides = {split: {**side, "shards": [{}]} for split in ("train", "validation")}
        content = json.dumps(record_of_unfinished(finished=None, sides=sides))
    elif "finished" in content:
        content = json.dumps(record_of_unfinished(**json.loads(content)))
    (tmp_path / "unfinished.json").write_text(content)
    with pytest.raises(CorruptShardError, match=f"; delete {tmp_path} to read the source anew"):
        load_unfinished(tmp_path)


def record_of_unfinished(**more: object) -> dict[str, object]:
    whole = {"settings": "0" * 64, "version": "1", "identity": "0" * 64, "finished": None}
    return {**whole, "mark": {}, "dropped": {}, "dropped_bytes": 0, "sides": {}, **more}


def test_two_processes_do_not_add_to_one_folder(tmp_path: Path) -> None:
    prepare_plans(tmp_path, plans=first_stage())
    before = all_bytes(tmp_path)
    with (tmp_path / "preparing.json").open("w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(UsageError, match="Another process is preparing"):
            prepare_plans(tmp_path, plans=second_stage())
        (tmp_path / "preparing.json").unlink()
    assert all_bytes(tmp_path) == before


def test_a_file_system_without_locks_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    prepare_plans(tmp_path, plans=first_stage())
    monkeypatch.setattr(fcntl, "flock", refuse)
    says = r"The file system of .* cannot lock a file \(No locks available\)"
    with pytest.raises(UsageError, match=says):
        prepare_plans(tmp_path, plans=second_stage())
    (tmp_path / "preparing.json").write_text('["a"]')
    with pytest.raises(UsageError, match=says):
        prepare_plans(tmp_path, plans=first_stage())


def test_a_manifest_that_changed_before_the_lock_is_not_overwritten(tmp_path: Path) -> None:
    old = prepare_plans(tmp_path, plans=first_stage())
    prepare_plans(tmp_path, plans=second_stage())
    before = all_bytes(tmp_path)
    with (
        pytest.raises(UsageError, match="Another process has just prepared"),
        workspace(tmp_path, {"c": "three"}, held=old, keep=lambda name: False),
    ):
        pytest.fail("the folder was lent though it had changed")
    (tmp_path / "preparing.json").unlink()
    assert all_bytes(tmp_path) == before
