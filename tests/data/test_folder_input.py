"""What people put into folders: damaged, huge, looping, unreadable. An error or a counted skip."""

import errno
import gzip
import json
import os
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.data.memory import sentences, stage
from tests.needs import ANY_NAME
from yxanul.data import progress
from yxanul.data.prepared.manifest import load_manifest
from yxanul.data.prepared.unfinished import load_unfinished
from yxanul.data.prepared.verify import verify
from yxanul.data.preparing.prepare import prepare
from yxanul.data.sources import folder as folder_source
from yxanul.data.sources.catalog import open_folder
from yxanul.data.sources.snippets.origin import open_origin
from yxanul.errors import (
    BrokenDiskError,
    CorruptDataError,
    StoppedOnRequest,
    UsageError,
    YxanulError,
)


def texts_in(folder: Path) -> tuple[list[str], dict[str, int]]:
    source = open_folder(folder, name="mine", domain="text")
    return [one.text for one in source.documents()], dict(source.dropped)


def test_an_empty_file_is_counted(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"")
    (tmp_path / "b.jsonl").write_bytes(b"")
    (tmp_path / "c.txt").write_text("text")
    assert texts_in(tmp_path) == (["text"], {"empty": 1})


@ANY_NAME
def test_a_name_that_is_not_utf_8_is_a_name_like_any_other(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9.txt")
    (tmp_path / name).write_text("text")
    (document,) = open_folder(tmp_path, name="mine", domain="text").documents()
    assert document.id == r"mine/caf\xe9.txt"
    texts = tmp_path / "texts"
    texts.mkdir()
    for n, text in enumerate(sentences(60)):
        (texts / f"{n}{name}").write_text(text)
    out = tmp_path / "out"
    verify(prepare([stage("s", source=str(texts))], out, progress=lambda line: None), out)


def test_a_text_that_is_null_is_empty_and_one_that_is_missing_says_what_to_do(
    tmp_path: Path,
) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "one"}\n{"text": null}\n')
    assert texts_in(tmp_path) == (["one"], {"empty": 1})
    (tmp_path / "a.jsonl").write_text('{"content": "one"}\n')
    with pytest.raises(UsageError, match=r"it has content\).*rename the column .* to 'text'"):
        texts_in(tmp_path)


def test_packed_files_are_read_as_what_they_hold(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = sentences(4)
    lines = "".join(json.dumps({"text": text}) + "\n" for text in rows[:2])
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(lines.encode()))
    (tmp_path / "b.txt.gz").write_bytes(gzip.compress(rows[2].encode()))
    (tmp_path / "c.MD.GZ").write_bytes(gzip.compress(rows[3].encode()))
    assert texts_in(tmp_path) == (rows, {})
    monkeypatch.setattr(folder_source, "LARGEST_BYTES", 100)
    (tmp_path / "d.txt.gz").write_bytes(gzip.compress(b"x" * 101))
    assert texts_in(tmp_path)[1]["too_large"] >= 1
    (tmp_path / "b.txt.gz").write_bytes(gzip.compress(rows[2].encode())[:-9])
    with pytest.raises(CorruptDataError, match=r"b\.txt\.gz cannot be unpacked as gzip"):
        texts_in(tmp_path)


def test_data_that_cannot_be_read_is_refused_by_name_and_number(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "one"}\n')
    for name in ("b.jsonl.zst", "below/c.jsonl.zst", "d.csv", "e.tar.gz", "picture.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(UsageError, match=r"\(1 of \.csv, 1 of \.tar\.gz, 2 of \.zst\)"):
        texts_in(tmp_path)
    for name in ("b.jsonl.zst", "below/c.jsonl.zst", "d.csv", "e.tar.gz"):
        (tmp_path / name).unlink()
    assert texts_in(tmp_path) == (["one"], {"other_file": 1})


def test_files_of_which_nothing_is_known_are_counted(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("text")
    for name in ("b.html", "c.rst", "d.tex", "below/e.markdown", "below/f", ".g", ".h/i.html"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("more text")
    assert texts_in(tmp_path) == (["text"], {"other_file": 5})


def test_what_describes_a_data_set_is_no_text_of_it(tmp_path: Path) -> None:
    names = ("README.md", "LICENSE", "LICENSE-MIT.txt", "dataset_infos.json", ".gitattributes")
    for name in names:
        (tmp_path / name).write_text("about the data")
    about = (["about the data"] * 2, {"readme": 2})
    assert texts_in(tmp_path) == about, "two have an ending that is read, and are all there is"
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a.jsonl").write_text('{"text": "one"}\n')
    (tmp_path / "readmes.txt").write_text("two")
    assert texts_in(tmp_path) == (["one", "two"], {"readme": 4})
    # A clone whose data are packed is refused, and not taken for its README.
    (tmp_path / "data" / "a.jsonl").rename(tmp_path / "data" / "a.json")
    with pytest.raises(UsageError, match=r"1 of \.json"):
        texts_in(tmp_path)


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("image.txt", b"\x89PNG\r\n\x1a\n\x00\x00\xff\xfe", "image.txt, line 1 is not UTF-8"),
        ("latin.txt", "eins\nschön".encode("latin-1"), "latin.txt, line 2 is not UTF-8"),
        ("bad.jsonl", b'{"text": "a"}\n{"text": "\xff"}\n', "bad.jsonl, line 2 is not UTF-8"),
        ("cut.jsonl", b'{"text": "a"}\n{"text": "b', "cut.jsonl, line 2 is not valid JSON"),
        ("deep.jsonl", b"[" * 100_000, "deep.jsonl, line 1 is not usable JSON"),
        ("zero.parquet", b"", "zero.parquet cannot be read as Parquet"),
        ("fake.parquet", b"PAR1 not really", "fake.parquet cannot be read as Parquet"),
    ],
)
def test_damage_names_file_and_line(tmp_path: Path, name: str, content: bytes, says: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CorruptDataError, match=says.replace(".", r"\.")):
        texts_in(tmp_path)


def test_all_that_is_wrong_is_told_before_a_text_is_treated(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    texts, out, said = tmp_path / "texts", tmp_path / "out", list[str]()
    texts.mkdir()
    lines = [json.dumps({"text": text}) for text in sentences(60)]
    bad = {7: '{"text": "cut', 9: '{"content": "a"}', 50: '{"text": ["a"]}'}
    (texts / "a.jsonl").write_text("\n".join(bad.get(n, line) for n, line in enumerate(lines, 1)))
    (texts / "b.txt.gz").write_bytes(b"no gzip")
    pq.write_table(pa.table({"body": ["x"]}), texts / "c.parquet")
    (texts / "d.jsonl").write_text("{\n" * 30)
    config = stage("s", source=str(texts))
    with pytest.raises(CorruptDataError) as raised:
        prepare([config], out, progress=said.append)
    told, *faults = str(raised.value).splitlines()
    assert told == f"35 texts of {texts} cannot be read, the first 20 are:"
    assert [fault.removeprefix(f"{texts}/").partition(" is ")[0] for fault in faults[5:]] == [
        f"d.jsonl, line {n}" for n in range(1, 16)
    ]
    for number, fault in zip((7, 9, 50), faults, strict=False):
        assert f"a.jsonl, line {number} " in fault
    assert "b.txt.gz cannot be unpacked" in faults[3]
    assert "c.parquet has no column 'text'" in faults[4]
    assert not said
    assert not out.exists()
    for name in ("b.txt.gz", "c.parquet", "d.jsonl"):
        (texts / name).unlink()
    (texts / "a.jsonl").write_text(
        "\n".join(line for n, line in enumerate(lines, 1) if n not in bad)
    )
    assert prepare([config], out, progress=said.append).sources["s"].train.documents > 30


@pytest.mark.parametrize("line", ['{"text": "%s', '{"content": "%s"}', '{"%s": "a"}'])
def test_what_cannot_be_read_is_not_held_until_it_is_told(tmp_path: Path, line: str) -> None:
    large = 1 << 20
    lines = [json.dumps({f"column {n}": n for n in range(30)}), *[line % ("a" * large)] * 15]
    (tmp_path / "a.jsonl").write_text("\n".join(lines))
    del lines
    tracemalloc.start()
    try:
        with pytest.raises(
            (CorruptDataError, UsageError), match=r"16 texts of .* cannot"
        ) as raised:
            open_folder(tmp_path, name="mine", domain="text")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 10 * large
    assert len(str(raised.value)) < 10_000
    assert "(it has column 0, " in str(raised.value)
    assert "column 9, ...)" in str(raised.value)


def test_what_was_looked_through_by_an_earlier_start_is_not_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.txt").write_text("One text of perhaps many.")
    (tmp_path / "b.jsonl").write_text("{\n")
    version = folder_source.folder_version(tmp_path)
    open_folder(tmp_path, name="mine", domain="text", begun=version)
    monkeypatch.setattr(progress, "_PROGRESS_S", 0)
    said: list[str] = []
    with pytest.raises(CorruptDataError, match="not valid JSON"):
        open_folder(tmp_path, name="mine", domain="text", begun="another", progress=said.append)
    told = [line for line in said if "texts of" in line]
    assert told == [f"{number} texts of {tmp_path} looked through" for number in (1, 2)]


@pytest.mark.parametrize(("value", "kind"), [(["a"], "list"), (5, "int")])
def test_what_is_no_text_is_told_by_its_kind(tmp_path: Path, value: object, kind: str) -> None:
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    (tmp_path / "a.jsonl").write_text(json.dumps({"text": value, "id": 1}))
    pq.write_table(pa.table({"text": ["one"]}), tmp_path / "b.parquet")
    says = rf"a\.jsonl, line 1 has no text in column 'text' but what Python calls {kind}:"
    with pytest.raises(UsageError, match=says):
        texts_in(tmp_path)
    (tmp_path / "a.jsonl").unlink()
    pq.write_table(pa.table({"text": [value]}), tmp_path / "b.parquet")
    says = rf"b\.parquet, row 1 has no text in column 'text' but what Python calls {kind}:"
    with pytest.raises(UsageError, match=says):
        texts_in(tmp_path)


def test_a_row_of_parquet_that_is_not_utf_8_is_named(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    texts = pa.array([b"one", b"caf\xe9"]).view(pa.string())
    pq.write_table(pa.table({"text": texts}), tmp_path / "a.parquet")
    with pytest.raises(CorruptDataError, match=r"a\.parquet, row 2 is not UTF-8: correct or"):
        texts_in(tmp_path)


def test_of_a_large_row_group_only_a_part_is_in_memory(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    texts = [f"{n} " * 400 for n in range(10_000, 20_000)]
    place = tmp_path / "a.parquet"
    pq.write_table(pa.table({"text": texts}), place, compression="none", use_dictionary=False)
    before, read = pa.total_allocated_bytes(), open_folder(tmp_path, name="mine", domain="text")
    held = [pa.total_allocated_bytes() - before for _ in read.documents()]
    assert len(held) == len(texts)
    assert max(held) < place.stat().st_size / 2


def test_a_truncated_parquet_file_is_refused(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    place = tmp_path / "a.parquet"
    pq.write_table(pa.table({"text": sentences(1000)}), place)
    whole = place.read_bytes()
    for size in (len(whole) - 1, len(whole) // 2, 20):
        place.write_bytes(whole[:size])
        with pytest.raises(CorruptDataError, match="cannot be read as Parquet"):
            texts_in(tmp_path)


def test_a_line_over_the_limit_is_counted_and_never_held(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    megabyte = 1 << 20
    monkeypatch.setattr(folder_source, "LARGEST_BYTES", megabyte)
    line = b'{"text": "' + b"x" * 32 * megabyte + b'"}\n'
    (tmp_path / "a.jsonl").write_bytes(b'{"text": "before"}\n' + line + b'{"text": "after"}\n')
    del line
    tracemalloc.start()
    try:
        assert texts_in(tmp_path) == (["before", "after"], {"too_large": 1})
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 8 * megabyte


def test_a_text_over_the_limit_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder_source, "LARGEST_BYTES", 100)
    (tmp_path / "a.txt").write_text("x" * 101)
    (tmp_path / "b.txt").write_text("x" * 100)
    (tmp_path / "c.jsonl").write_text(json.dumps({"text": "y" * 200}) + '\n{"text": "z"}')
    assert texts_in(tmp_path) == (["x" * 100, "z"], {"too_large": 2})


def test_the_limit_counts_the_bytes_of_a_text_in_parquet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    monkeypatch.setattr(folder_source, "LARGEST_BYTES", 100)
    texts = pa.array(["é" * 51, "é" * 50, None, "x" * 101])
    for kind in (pa.string(), pa.large_string(), pa.dictionary(pa.int32(), pa.string())):
        pq.write_table(pa.table({"text": texts.cast(kind)}), tmp_path / "a.parquet")
        assert texts_in(tmp_path) == (["é" * 50], {"too_large": 2, "empty": 1})


@pytest.mark.parametrize("place", [0, 1])
def test_a_byte_order_mark_is_no_part_of_a_line(tmp_path: Path, place: int) -> None:
    lines = ['{"text": "one"}\n', '{"text": "two"}\n']
    lines[place] = "\ufeff" + lines[place]
    (tmp_path / "a.jsonl").write_text("".join(lines), encoding="utf-8")
    assert texts_in(tmp_path) == (["one", "two"], {})


def test_hashing_a_folder_tells_how_far_it_is_and_can_be_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "_PROGRESS_S", 0)
    texts, out, said = tmp_path / "texts", tmp_path / "out", list[str]()
    texts.mkdir()
    (texts / "a.txt").write_text("x" * 3072)
    line = f"{texts}: reading for its hash: 3 KiB of 3 KiB"

    def stop(line: str) -> None:
        said.append(line)
        raise StoppedOnRequest(line)

    with pytest.raises(StoppedOnRequest, match="reading for its hash"):
        prepare([stage("s", source=str(texts))], out, progress=stop)
    assert said == [line]
    version = folder_source.folder_version(texts)
    assert folder_source.unchanged_since(texts, version, since=0, progress=said.append)
    assert said == [line, line]


def test_news_that_cannot_be_told_is_no_fault_of_the_file_that_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "_PROGRESS_S", 0)
    (tmp_path / "a.txt").write_text("text")

    def full(line: str) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        folder_source.folder_version(tmp_path, progress=full)


def test_links_that_lead_in_circles_are_not_followed(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("text")
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / "up").symlink_to(tmp_path, target_is_directory=True)
    (tmp_path / "self.txt").symlink_to(tmp_path / "self.txt")
    assert texts_in(tmp_path) == (["text"], {})


def test_links_to_folders_are_followed_and_no_folder_is_read_twice(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    for name in ("texts/own/a.txt", "texts/.store/b.txt", "elsewhere/c.txt", "elsewhere/d/e.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(Path(name).stem)
    texts = tmp_path / "texts"
    links = {"again": texts / "own", "far": elsewhere, "stored": texts / ".store", "up": tmp_path}
    for name, target in links.items():
        (texts / name).symlink_to(target, target_is_directory=True)
    (elsewhere / "back").symlink_to(texts, target_is_directory=True)
    (elsewhere / "d" / "round").symlink_to(elsewhere, target_is_directory=True)
    source = open_folder(texts, name="mine", domain="text")
    names = ["far/c.txt", "far/d/e.txt", "own/a.txt", "stored/b.txt"]
    assert [one.id for one in source.documents()] == [f"mine/{name}" for name in names]


@pytest.mark.parametrize("name", ["b.txt", "below", "below/c.jsonl"])
def test_a_link_to_what_is_not_there_is_an_error(tmp_path: Path, name: str) -> None:
    (tmp_path / "a.txt").write_text("text")
    (tmp_path / ".lock").symlink_to("nobody@nowhere")
    assert texts_in(tmp_path) == (["text"], {})
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).symlink_to(tmp_path / "not-mounted")
    with pytest.raises(UsageError, match=r"is a link to .*not-mounted, which is not there"):
        texts_in(tmp_path)


@pytest.mark.parametrize("read", [texts_in, lambda folder: open_origin(str(folder))])
def test_a_folder_that_may_not_be_read_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, read: Callable[[Path], object]
) -> None:
    (tmp_path / "a.md").write_text("text")
    (tmp_path / "below").mkdir()
    read(tmp_path)
    scandir = os.scandir

    def refused(place: str) -> object:  # the tests may run as root, whom no right stops
        if os.fspath(place).endswith("below"):
            raise PermissionError(13, "Permission denied", place)
        return scandir(place)

    monkeypatch.setattr(os, "scandir", refused)
    with pytest.raises(CorruptDataError, match=r"below cannot be read \(Permission denied\)"):
        read(tmp_path)


def test_all_files_that_may_not_be_read_are_told_before_one_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "_PROGRESS_S", 0)
    for name in "abc":
        (tmp_path / f"{name}.txt").write_text("text")
    opened, said = Path.open, list[str]()

    def refused(place: Path, *given: Any, **named: Any) -> Any:  # the tests may run as root
        if place.name in ("b.txt", "c.txt"):
            raise PermissionError(13, "Permission denied", str(place))
        return opened(place, *given, **named)

    monkeypatch.setattr(Path, "open", refused)
    with pytest.raises(CorruptDataError, match=r"^2 files of .*\n.*b\.txt .*\n.*c\.txt cannot"):
        folder_source.folder_version(tmp_path, progress=said.append)
    assert not said


def test_the_lost_and_found_of_a_disk_is_not_looked_into(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text("text")
    (tmp_path / "lost+found").mkdir()
    (tmp_path / "lost+found" / "#12.md").write_text("what a repair of the disk found")
    assert texts_in(tmp_path) == (["text"], {})
    assert [name for name, _ in open_origin(str(tmp_path)).files] == ["a.md"]


def test_a_file_that_may_not_be_read_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.txt").write_text("text")
    source = open_folder(tmp_path, name="mine", domain="text")

    def refuse(path: Path, mode: str) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(CorruptDataError, match="give this user the right to read it"):
        list(source.documents())


@pytest.mark.fault(13)
@pytest.mark.parametrize("number", [errno.ESTALE, errno.EIO])
@pytest.mark.parametrize("read", [texts_in, folder_source.folder_version, load_unfinished])
def test_texts_on_a_disk_that_fails_are_not_damaged(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    read: Callable[[Path], object],
    number: int,
) -> None:
    (tmp_path / "a.txt").write_text("text")

    def fail(place: Path, *_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number), str(place))

    monkeypatch.setattr(Path, "open", fail)
    with pytest.raises(BrokenDiskError, match=r"the disk failed at .*(a\.txt|unfinished\.json)"):
        read(tmp_path)


def test_parquet_on_a_disk_that_is_away_is_not_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pq = pytest.importorskip("pyarrow.parquet")
    (tmp_path / "a.parquet").write_bytes(b"PAR1")

    def fail(place: Path, **_: object) -> None:
        raise OSError(errno.ESTALE, os.strerror(errno.ESTALE), str(place))

    monkeypatch.setattr(pq, "ParquetFile", fail)
    with pytest.raises(BrokenDiskError, match=r"the disk failed at .*a\.parquet"):
        texts_in(tmp_path)


def test_a_reading_goes_on_after_any_document(tmp_path: Path) -> None:
    rows = sentences(12)
    lines = [json.dumps({"text": text}) for text in (rows[0], "  ", *rows[1:6])]
    (tmp_path / "a.jsonl").write_text("\n".join([lines[0], "", *lines[1:]]))
    (tmp_path / "b.txt").write_text("")
    for n, text in enumerate(rows[6:]):
        (tmp_path / f"c{n}.txt").write_text(text)
    source = open_folder(tmp_path, name="mine", domain="text")
    every = list(source.documents())
    counts = dict(source.dropped)
    assert counts == {"empty": 2}
    for number in range(1, len(every) + 1):
        reading = source.documents()
        for _ in range(number):
            next(reading)
        mark = json.loads(json.dumps(source.bookmark.mark()))
        other = open_folder(tmp_path, name="mine", domain="text")
        assert list(other.bookmark.resume(mark)) == every[number:]
        assert dict(other.dropped) == counts


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: (folder / "z.txt").write_bytes(b"\xff"),
        lambda folder: (folder / "z.parquet").write_bytes(b"PAR1"),
    ],
    ids=["bytes", "parquet"],
)
def test_nothing_half_written_is_ever_taken_for_whole(
    tmp_path: Path, damage: Callable[[Path], object]
) -> None:
    texts, out = tmp_path / "texts", tmp_path / "out"
    texts.mkdir()
    for n, text in enumerate(sentences(60)):
        (texts / f"{n:03d}.txt").write_text(text)
    damage(texts)
    config = stage("stage1_tests", source=str(texts))
    with pytest.raises(CorruptDataError):
        prepare([config], out, progress=lambda line: None)
    with pytest.raises(UsageError, match="is no prepared folder"):
        load_manifest(out)
    for file in texts.glob("z.*"):
        file.unlink()
    prepare([config], out, progress=lambda line: None)
    assert load_manifest(out).sources["stage1_tests"].train.documents > 30


def test_a_full_disk_is_named_and_the_work_is_gone_on_with(tmp_path: Path) -> None:
    """A limit on the size of files stands for the disk: the system refuses the same write."""
    resource = pytest.importorskip("resource")
    texts = tmp_path / "texts"
    texts.mkdir()
    for n in range(30):
        (texts / f"{n:02d}.txt").write_text(" ".join(f"{n} word{k}" for k in range(20_000)))
    config = stage("stage1_tests", source=str(texts))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    import signal

    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, hard))
        with pytest.raises(YxanulError) as raised:
            prepare([config], tmp_path / "out", progress=lambda line: None)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)
    assert raised.value.exit_code == 32
    assert not (tmp_path / "out" / "manifest.json").exists()
    manifest = prepare([config], tmp_path / "out", progress=lambda line: None)
    assert manifest.sources["stage1_tests"].train.documents > 15
