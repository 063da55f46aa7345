"""Whatever happens to a prepared folder is found, and named, before a model sees it."""

import copy
import errno
import hashlib
import json
import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.data.memory import prepare_texts, sentences
from yxanul.data import progress
from yxanul.data.files import read_blocks
from yxanul.data.inspection.card import write_cards
from yxanul.data.prepared.documents import read_documents
from yxanul.data.prepared.manifest import load_manifest, require_stages
from yxanul.data.prepared.shards import _tokens_in, open_stream
from yxanul.data.prepared.verify import verify
from yxanul.errors import (
    BrokenDiskError,
    CorruptShardError,
    StoppedOnRequest,
    UsageError,
    YxanulError,
)
from yxanul.runfolder.durable import seal
from yxanul.units import format_bytes

SHARD = "stones/train-00001.bin"
Table = dict[str, Any]


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("prepared")
    prepare_texts(root, stones=sentences(100), trees=sentences(60, about="tree"))
    return root


@pytest.fixture
def folder(original: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(original, tmp_path / "copy"))


def edit_manifest(folder: Path, change: Callable[[Table], object]) -> None:
    path = folder / "manifest.json"
    table = json.loads(path.read_text())
    change(table)
    # As whoever changes it on purpose would: the damage below is found behind the seal.
    if "sha256" in table:
        table["sha256"] = seal(table)
    path.write_text(json.dumps(table))


def shard_entry(table: Table) -> Table:
    entry = table["sources"]["stones"]["train"]["files"][1]
    assert entry["path"] == SHARD
    return entry


def test_an_untouched_folder_verifies(folder: Path) -> None:
    verify(load_manifest(folder), folder)


def flip_a_bit(folder: Path) -> None:
    content = bytearray((folder / SHARD).read_bytes())
    content[10] ^= 1
    (folder / SHARD).write_bytes(content)


def link_elsewhere(folder: Path) -> None:
    moved = folder.parent / "elsewhere.bin"
    shutil.move(folder / SHARD, moved)
    (folder / SHARD).symlink_to(moved)


def link_the_folder(folder: Path) -> None:
    shutil.move(folder / "stones", folder.parent / "stones")
    (folder / "stones").symlink_to(folder.parent / "stones")


def make_a_folder(folder: Path) -> None:
    (folder / SHARD).unlink()
    (folder / SHARD).mkdir()


DAMAGE = {
    "missing": (lambda folder: (folder / SHARD).unlink(), f"{SHARD} is missing"),
    "renamed": (
        lambda folder: (folder / SHARD).rename(folder / "stones/other.bin"),
        f"{SHARD} is missing",
    ),
    "extra": (
        lambda folder: (folder / "stones/train-00099.bin").write_bytes(b"\1\0"),
        "train-00099.bin is not in the manifest",
    ),
    "extra beside": (lambda folder: (folder / "x.bin").write_bytes(b""), "x.bin is not in"),
    "truncated": (
        lambda folder: (folder / SHARD).write_bytes((folder / SHARD).read_bytes()[:-2]),
        f"{SHARD} has 998 bytes, the manifest says 1,000",
    ),
    "one bit": (flip_a_bit, f"{SHARD} is damaged: its sha256"),
    "link": (link_elsewhere, f"{SHARD} is a symbolic link"),
    "linked folder": (link_the_folder, "stones is a symbolic link"),
    "folder": (make_a_folder, f"{SHARD} is missing"),
    "index": (
        lambda folder: (folder / "stones/train.documents.jsonl").unlink(),
        "train.documents.jsonl is missing",
    ),
}


@pytest.mark.fault(21)
@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_to_a_file_is_found_and_named(folder: Path, damage: str) -> None:
    act, message = DAMAGE[damage]
    act(folder)
    with pytest.raises(CorruptShardError) as caught:
        verify(load_manifest(folder), folder)
    assert message in str(caught.value)


def test_the_way_that_the_message_names_leads_on(folder: Path) -> None:
    texts = {"stones": sentences(100), "trees": sentences(60, about="tree")}
    flip_a_bit(folder)
    prepare_texts(folder, **texts)  # it is there, so preparing again alone mends nothing
    with pytest.raises(CorruptShardError, match="delete the prepared folder and prepare"):
        verify(load_manifest(folder), folder)
    shutil.rmtree(folder)
    prepare_texts(folder, **texts)
    verify(load_manifest(folder), folder)


@pytest.mark.fault(20)
def test_an_id_outside_the_vocabulary_is_found_behind_a_right_hash(folder: Path) -> None:
    tokens = np.fromfile(folder / SHARD, dtype="<u2")
    tokens[7] = 50257
    content = tokens.tobytes()
    (folder / SHARD).write_bytes(content)
    edit_manifest(
        folder, lambda t: shard_entry(t).update(sha256=hashlib.sha256(content).hexdigest())
    )
    with pytest.raises(CorruptShardError, match=r"train-00001\.bin holds the token id 50257"):
        verify(load_manifest(folder), folder)


def test_a_long_comparison_tells_how_far_it_is_and_can_be_stopped(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "_PROGRESS_S", 0)
    said: list[str] = []
    verify(load_manifest(folder), folder, progress=said.append)
    total = format_bytes(sum(file.bytes for file in load_manifest(folder).files()))
    assert said[-1] == f"{folder}: comparing every byte: {total} of {total}"

    def stop(line: str) -> None:
        raise StoppedOnRequest(line)

    with pytest.raises(StoppedOnRequest, match="comparing every byte"):
        verify(load_manifest(folder), folder, progress=stop)
    with pytest.raises(StoppedOnRequest, match="documents counted"):
        write_cards(load_manifest(folder), folder, progress=stop)


def test_a_wrong_count_of_documents_is_found(folder: Path) -> None:
    edit_manifest(folder, lambda t: t["sources"]["stones"]["train"].update(documents=3))
    with pytest.raises(CorruptShardError, match=r"the train shards hold .* the manifest says 3"):
        verify(load_manifest(folder), folder)


def test_a_stage_that_is_not_there_is_named(folder: Path) -> None:
    manifest = load_manifest(folder)
    require_stages(manifest, ["stage1_tests"])
    with pytest.raises(UsageError, match="no stage stage2_tests, only stage1_tests; prepare it"):
        require_stages(manifest, ["stage1_tests", "stage2_tests"])


def test_another_vocabulary_is_refused(folder: Path) -> None:
    edit_manifest(folder, lambda t: t.update(tokenizer_sha256="a" * 64))
    with pytest.raises(CorruptShardError, match="another vocabulary"):
        verify(load_manifest(folder), folder)


@pytest.mark.fault(20)
@pytest.mark.parametrize("damage", ["missing", "truncated", "link"])
def test_opening_a_stream_sees_what_is_cheap_to_see(folder: Path, damage: str) -> None:
    manifest = load_manifest(folder)
    DAMAGE[damage][0](folder)
    with pytest.raises(CorruptShardError, match=r"train-00001\.bin"):
        open_stream(manifest, folder, source="stones", split="train")


@pytest.mark.fault(13)
@pytest.mark.parametrize(
    ("number", "error"),
    [
        (errno.ESTALE, BrokenDiskError),
        (errno.ENOTCONN, BrokenDiskError),
        (errno.EIO, CorruptShardError),
    ],
)
def test_prepared_data_on_a_disk_that_is_away_is_not_damaged(
    folder: Path, number: int, error: type[YxanulError], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(place: Path, *_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number), str(place))

    with monkeypatch.context() as away:
        away.setattr(Path, "read_bytes", fail)
        with pytest.raises(error, match=r"manifest\.json"):
            load_manifest(folder)
    with monkeypatch.context() as away:
        away.setattr(Path, "open", fail)
        with pytest.raises(error, match=SHARD):
            list(read_blocks(folder / SHARD))
    monkeypatch.setattr(Path, "stat", fail)
    with pytest.raises(error, match=SHARD):
        _tokens_in(folder / SHARD)


def test_a_folder_without_a_manifest_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="run `yxanul prepare` first"):
        load_manifest(tmp_path)


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"null", b"\xff\xfe", b"[" * 100_000, b"9" * 5000]
)
def test_a_manifest_that_is_none_is_named(folder: Path, content: bytes) -> None:
    (folder / "manifest.json").write_bytes(content)
    with pytest.raises(CorruptShardError, match=r"manifest\.json"):
        load_manifest(folder)


@pytest.mark.parametrize(
    "content", [b'[{"file": "a.txt"}]', b'{"files": []}', b'{"format_version": 3}']
)
def test_nobody_is_told_to_delete_texts_for_a_manifest_of_their_own(
    tmp_path: Path, content: bytes
) -> None:
    (tmp_path / "a.txt").write_text("the only copy")
    (tmp_path / "manifest.json").write_bytes(content)
    says = (
        r"manifest\.json is no manifest that `prepare` wrote: if .* texts, move that file away\.$"
    )
    with pytest.raises(CorruptShardError, match=says):
        load_manifest(tmp_path)
    (tmp_path / "manifest.json").write_text("# what is here\n")
    with pytest.raises(CorruptShardError, match="texts, move that file away, else delete"):
        load_manifest(tmp_path)


def rename_stage(name: str) -> Callable[[Table], object]:
    def rename(table: Table) -> None:
        table["stages"][name] = table["stages"].pop("stage1_tests")
        for source in table["sources"].values():
            source["stage"] = name

    return rename


MANIFEST_DAMAGE: dict[str, tuple[Callable[[Table], object], str]] = {
    "version": (lambda t: t.update(format_version=1), "format_version 1, this program reads 2"),
    "missing key": (lambda t: t.pop("stages"), "the key stages is missing"),
    "unknown key": (lambda t: t.update(extra=1), "the key 'extra' is unknown"),
    "kind": (lambda t: t["sources"]["stones"].update(version=1), "version must be a string"),
    "stage of a source": (
        lambda t: t["sources"]["stones"].update(stage="x"),
        "the stage 'x' is in sources, but not in stages",
    ),
    "stage without a source": (
        lambda t: t["stages"].update(x=t["stages"]["stage1_tests"]),
        "the stage 'x' is in stages, but has no source",
    ),
    "settings": (
        lambda t: t["stages"]["stage1_tests"].update(settings_sha256=3),
        "stages.stage1_tests: settings_sha256 must be a string",
    ),
    "bool": (lambda t: shard_entry(t).update(tokens=True), "tokens must be a whole number"),
    "negative": (lambda t: t["sources"]["stones"]["dropped"].update(x=-1), "x must be a whole"),
    "traversal": (lambda t: shard_entry(t).update(path="../x.bin"), f"path must be {SHARD}"),
    "absolute": (lambda t: shard_entry(t).update(path="/x.bin"), f"path must be {SHARD}"),
    "source name": (
        lambda t: t["sources"].update({"../x": t["sources"].pop("stones")}),
        "the name '../x' may hold only letters",
    ),
    "stage name": (rename_stage("../x"), "the name '../x' may hold only letters"),
    "absolute stage": (rename_stage("/home/me/x"), "the name '/home/me/x' may hold only"),
    "domain": (
        lambda t: t["sources"]["stones"].update(domain="../x"),
        "the name '../x' may hold only letters",
    ),
    "task": (
        lambda t: t["sources"]["stones"]["decontaminated"].update({"\x1b[2J": "0"}),
        "the name '\\x1b[2J' may hold only letters",
    ),
    "hash": (lambda t: shard_entry(t).update(sha256="0"), "sha256 must be 64 hexadecimal"),
    "sum": (
        lambda t: t["sources"]["stones"]["train"].update(tokens=1),
        "tokens is not the sum over files",
    ),
    "size": (lambda t: shard_entry(t).update(bytes=1), "bytes is not twice tokens"),
    "no sources": (lambda t: t.update(sources={}), "sources is empty"),
    "sources": (lambda t: t.update(sources=[]), "sources must be an object"),
    "files": (lambda t: t["sources"]["stones"]["train"].update(files={}), "files must be a list"),
}


@pytest.mark.parametrize("damage", MANIFEST_DAMAGE)
def test_damage_to_the_manifest_names_file_and_key(folder: Path, damage: str) -> None:
    change, message = MANIFEST_DAMAGE[damage]
    edit_manifest(folder, change)
    with pytest.raises(CorruptShardError) as caught:
        load_manifest(folder)
    assert message in str(caught.value)
    assert "manifest.json" in str(caught.value)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=6,
)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value)
    found = [path] if path else []
    if isinstance(value, dict | list):
        for key, item in inner:
            found += places(item, (*path, key)) if isinstance(item, dict | list) else [(*path, key)]
    return found


@given(data=st.data(), value=JSON)
def test_a_manifest_with_anything_anywhere_never_crashes(
    original: Path, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, value: object
) -> None:
    table = copy.deepcopy(json.loads((original / "manifest.json").read_text()))
    *path, last = data.draw(st.sampled_from(places(table)))
    target = table
    for key in path:
        target = target[key]
    target[last] = value
    root = tmp_path_factory.mktemp("fuzz")
    (root / "manifest.json").write_text(json.dumps(table))
    with suppress(CorruptShardError):
        load_manifest(root)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "is not valid JSON"),
        ('{"id": "a"}', "is missing"),
        ('{"id":1,"url":null,"tokens":1,"bytes":1,"sha256":"' + "0" * 64 + '"}', "id must be"),
    ],
)
def test_a_bad_line_of_the_index_is_named(folder: Path, line: str, message: str) -> None:
    path = folder / "stones/train.documents.jsonl"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0], line, *lines[2:]]))
    with pytest.raises(CorruptShardError, match=message) as caught:
        list(read_documents(load_manifest(folder), folder, source="stones", split="train"))
    assert "train.documents.jsonl line 2" in str(caught.value)
