"""A checkpoint is whole and unaltered, or it is refused with the name of the file at fault."""

import errno
import hashlib
import json
import os
import shutil
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from yxanul.errors import BrokenDiskError, CorruptCheckpointError, DiskError
from yxanul.runfolder import checkpoints
from yxanul.runfolder.checkpoints import (
    LARGEST_JSON_BYTES,
    CheckpointInfo,
    checkpoint_name,
    list_checkpoints,
    load_checkpoint,
    verify_checkpoint,
)
from yxanul.runfolder.durable import sha256_of
from yxanul.runfolder.lineage import SET_ASIDE, events
from yxanul.runfolder.saving import (
    Verified,
    purge_checkpoints,
    remove_leftovers,
    save_checkpoint,
    set_aside,
)

FILES = ["manifest.json", "model.safetensors", "optimizer.safetensors", "state.json"]
SIGNED = FILES[1:]
MODEL = {
    "a.weight": np.linspace(-1, 1, 35, dtype=np.float32).reshape(5, 7),
    "b.weight": np.array([0.0, -0.0, 1e-45, np.float32(1) / 3], dtype=np.float32),
}
OPTIMIZER = {"updates": np.array(3, dtype=np.int64), "exp_avg.a": np.ones((2, 3), np.float32)}
STATE = {"position": {"step": 3}, "torch_rng": "AAAA", "float": 0.1}
ODD = [None, True, -1, 1.5, "x", [], {}, [[]], 10**30]


def write(folder: Path, step: int = 3, attempt: int = 0, permanent: bool = False) -> Path:
    info = CheckpointInfo(
        path=folder / checkpoint_name(step, attempt),
        step=step,
        attempt=attempt,
        tokens_seen=step * 100,
        stage="stage1",
        permanent=permanent,
        parent=None,
    )
    save_checkpoint(folder, info, model=MODEL, optimizer=OPTIMIZER, state=STATE)
    return info.path


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def sign(path: Path, name: str) -> None:
    """Make the manifest agree with a file that was changed."""
    edit(path, lambda manifest: manifest["files"].update({name: entry(path / name)}))


def entry(path: Path) -> dict:
    return {"bytes": path.stat().st_size, "sha256": sha256_of(path)}


def edit(path: Path, change) -> None:
    manifest = json.loads((path / "manifest.json").read_text())
    change(manifest)
    manifest.pop("sha256")
    content = json.dumps(manifest, sort_keys=True).encode()
    manifest["sha256"] = hashlib.sha256(content).hexdigest()
    (path / "manifest.json").write_text(json.dumps(manifest))


def refused(path: Path, named: str) -> str:
    """Both doors refuse it and name the file; return the sentence."""
    with pytest.raises(CorruptCheckpointError) as caught:
        load_checkpoint(path)
    assert named in str(caught.value)
    return str(caught.value)


def test_a_checkpoint_comes_back_bit_for_bit(tmp_path):
    path = write(tmp_path)
    found = load_checkpoint(path)
    for tensors, wanted in ((found.model, MODEL), (found.optimizer, OPTIMIZER)):
        assert tensors.keys() == wanted.keys()
        for name, array in wanted.items():
            assert tensors[name].dtype == array.dtype
            assert tensors[name].shape == array.shape
            assert tensors[name].tobytes() == array.tobytes()
    assert found.state == STATE
    assert found.info == verify_checkpoint(path)
    assert (found.info.name, found.info.step, found.info.tokens_seen) == (path.name, 3, 300)
    assert names(path) == FILES
    assert names(tmp_path) == [path.name]


@pytest.mark.parametrize("name", SIGNED)
def test_one_flipped_bit_is_found_and_its_file_named(tmp_path, name):
    path = write(tmp_path)
    file = path / name
    content = bytearray(file.read_bytes())
    for at in (0, len(content) // 2, len(content) - 1):
        content[at] ^= 1
        file.write_bytes(content)
        assert "sha256" in refused(path, name)
        content[at] ^= 1
    file.write_bytes(content)
    verify_checkpoint(path)


def test_one_flipped_bit_anywhere_in_the_manifest_is_found(tmp_path):
    path = write(tmp_path)
    file = path / "manifest.json"
    content = bytearray(file.read_bytes())
    blank = b" \n"
    for at in range(len(content)):
        if content[at] in blank:
            continue  # JSON's blanks mean nothing, whichever they are
        content[at] ^= 4
        file.write_bytes(content)
        refused(path, path.name)
        content[at] ^= 4
    file.write_bytes(content)
    verify_checkpoint(path)


@pytest.mark.parametrize("name", FILES)
def test_a_truncated_file_is_found_and_named(tmp_path, name):
    path = write(tmp_path)
    content = (path / name).read_bytes()
    for size in (0, 1, len(content) - 3):
        (path / name).write_bytes(content[:size])
        refused(path, name)


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_found_and_named(tmp_path, name):
    path = write(tmp_path)
    (path / name).unlink()
    assert "missing" in refused(path, name)
    (path / name).mkdir()
    refused(path, name)


@pytest.mark.parametrize("name", FILES)
def test_a_link_to_the_very_same_file_is_refused(tmp_path, name):
    path = write(tmp_path)
    (path / name).rename(tmp_path / "elsewhere")
    (path / name).symlink_to(tmp_path / "elsewhere")
    assert "symbolic link" in refused(path, name)


def test_an_extra_link_is_refused_and_an_extra_file_is_never_read(tmp_path):
    path = write(tmp_path)
    (path / "payload.pkl").write_bytes(b"cos\nsystem\n(S'false'\ntR.")
    assert load_checkpoint(path).state == STATE
    (path / "link").symlink_to("/etc/hostname")
    assert "symbolic link" in refused(path, "link")


@pytest.mark.parametrize("value", ODD, ids=repr)
@pytest.mark.parametrize(
    "key", ["format", "step", "attempt", "tokens_seen", "stage", "permanent", "parent", "files"]
)
def test_a_manifest_value_of_another_type_is_refused(tmp_path, key, value):
    path = write(tmp_path)
    fits = {"stage": str, "permanent": bool, "parent": (str, type(None))}
    if key in fits and isinstance(value, fits[key]):
        return
    if key == "tokens_seen" and value == 10**30:
        return
    edit(path, lambda manifest: manifest.update({key: value}))
    refused(path, "manifest.json" if key not in ("step", "attempt") else path.name)
    edit(path, lambda manifest: manifest.pop(key))
    refused(path, "manifest.json")


@pytest.mark.parametrize("value", ODD, ids=repr)
@pytest.mark.parametrize("key", ["config_sha256", "world_size", "code_version"])
def test_what_older_manifests_lack_may_be_missing_and_is_of_its_type_where_it_is_there(
    tmp_path, key, value
):
    path = write(tmp_path)
    edit(path, lambda manifest: manifest.pop(key))
    assert getattr(load_checkpoint(path).info, key) is None
    edit(path, lambda manifest: manifest.update({key: value}))
    fits = type(value) is int and value >= 0 if key == "world_size" else isinstance(value, str)
    if value is None or fits:
        assert getattr(load_checkpoint(path).info, key) == value
    else:
        refused(path, "manifest.json")


@pytest.mark.parametrize("value", ODD, ids=repr)
def test_a_file_entry_of_another_type_is_refused(tmp_path, value):
    path = write(tmp_path)
    good = entry(path / "state.json")
    for wrong in (value, {**good, "bytes": value}, {**good, "sha256": value}):
        edit(path, lambda manifest, wrong=wrong: manifest["files"].update({"state.json": wrong}))
        refused(path, "state.json")


@pytest.mark.parametrize(
    "name",
    ["../outside", "/etc/hostname", "a/b", "..", ".", "", ".hidden", "manifest.json", "a\0b"],
)
def test_a_manifest_cannot_name_what_is_no_file_of_a_checkpoint(tmp_path, name):
    path = write(tmp_path)
    (tmp_path / "outside").write_text("x")
    edit(path, lambda manifest: manifest["files"].update({name: entry(tmp_path / "outside")}))
    refused(path, "manifest.json")


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"null", b"\xff", b"{}", b"[" * 100_000, b'{"step":' + b"9" * 5000 + b"}"],
    ids=lambda content: repr(content[:12]),
)
def test_a_manifest_that_is_no_manifest_is_refused(tmp_path, content):
    path = write(tmp_path)
    (path / "manifest.json").write_bytes(content)
    refused(path, "manifest.json")


def test_a_state_that_is_no_object_is_refused(tmp_path):
    path = write(tmp_path)
    (path / "state.json").write_text("[1]")
    sign(path, "state.json")
    refused(path, "state.json")


def safetensors(header: bytes, data: bytes = b"", size: int | None = None) -> bytes:
    length = len(header) if size is None else size
    return length.to_bytes(8, "little") + header + data


BF16 = b'{"a":{"dtype":"BF16","shape":[2],"data_offsets":[0,4]}}'
LONG = b'{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}}'
NAN = b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"1234567",
        safetensors(b"{", size=2**62),
        safetensors(b"not json"),
        safetensors(b"[" * 1000),
        safetensors(BF16, bytes(4)),
        safetensors(LONG, bytes(4)),
        safetensors(NAN, b"\x00\x00\xc0\x7f"),
    ],
    ids=["empty", "short", "huge header", "no json", "deep", "bf16", "wrong shape", "nan"],
)
@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.safetensors"])
def test_a_signed_file_that_holds_no_tensors_of_ours_is_refused(tmp_path, name, content):
    path = write(tmp_path)
    (path / name).write_bytes(content)
    sign(path, name)
    refused(path, name)


def test_a_folder_or_file_that_only_has_the_name_is_no_checkpoint(tmp_path):
    (tmp_path / "step-00000001-a0").mkdir()
    (tmp_path / "step-00000002-a0").write_text("")
    for path in list_checkpoints(tmp_path):
        refused(path, path.name)


@pytest.mark.parametrize(
    ("number", "kind", "told"),
    [
        (errno.EIO, CorruptCheckpointError, r"model\.safetensors"),
        (errno.ESTALE, BrokenDiskError, r"model\.safetensors"),
        (errno.ENOMEM, MemoryError, "Cannot allocate memory"),
    ],
)
@pytest.mark.parametrize("read", ["sha256_of", "load_file"])
def test_a_checkpoint_that_cannot_be_read_now_is_not_damaged(
    tmp_path, monkeypatch, read, number, kind, told
):
    path = write(tmp_path)

    def gone(where: Path) -> None:
        if read == "load_file":  # which is Rust's
            raise OSError(f"{os.strerror(number)} (os error {number})")
        raise OSError(number, os.strerror(number), str(where))

    monkeypatch.setattr(checkpoints, read, gone)
    with pytest.raises(kind, match=told):
        load_checkpoint(path)


def test_a_renamed_checkpoint_is_refused(tmp_path):
    path = write(tmp_path)
    other = path.rename(tmp_path / checkpoint_name(9, 0))
    refused(other, "step-00000003-a0")


def test_checkpoints_are_listed_by_step_then_attempt(tmp_path):
    for step, attempt in [(20, 0), (3, 0), (3, 1), (100_000_000, 0)]:
        write(tmp_path, step, attempt)
    for name in ["step-3-a0", ".tmp-step-00000003-a0-1", "bad-step-00000003-a0-1", "notes"]:
        (tmp_path / name).mkdir()
    found = [path.name for path in list_checkpoints(tmp_path)]
    steps = ["step-00000003-a0", "step-00000003-a1", "step-00000020-a0", "step-100000000-a0"]
    assert found == steps
    assert [p.name for p in list_checkpoints(tmp_path, attempt=1)] == ["step-00000003-a1"]
    assert list_checkpoints(tmp_path / "missing") == []


def test_a_checkpoint_is_never_overwritten(tmp_path):
    path = write(tmp_path)
    before = {name: (path / name).read_bytes() for name in FILES}
    with pytest.raises(DiskError, match="File exists"):
        write(tmp_path)
    assert {name: (path / name).read_bytes() for name in FILES} == before
    assert names(tmp_path) == [path.name]
    (tmp_path / checkpoint_name(4, 0)).mkdir()
    with pytest.raises(DiskError):
        write(tmp_path, 4)


def test_a_checkpoint_that_cannot_be_written_leaves_nothing(tmp_path):
    with pytest.raises(DiskError, match="step-00000003-a0"):
        write(tmp_path / "missing")
    assert names(tmp_path) == []


def test_a_checkpoint_set_aside_frees_its_name_and_is_kept(tmp_path):
    (tmp_path / "checkpoints").mkdir()
    path, lineage = write(tmp_path / "checkpoints"), tmp_path / "lineage.jsonl"
    set_aside(path, CorruptCheckpointError("a reason"), lineage=lineage)
    (told,) = events(lineage, SET_ASIDE)
    assert (told["checkpoint"], told["why"]) == (path.name, "a reason")
    assert told["to"].startswith(f"bad-{path.name}-")
    assert names(path.parent / told["to"]) == FILES
    assert list_checkpoints(path.parent) == []
    write(path.parent)


def test_a_manifest_that_is_too_large_is_not_read(tmp_path):
    path = write(tmp_path)
    with (path / "manifest.json").open("r+b") as file:
        file.truncate(LARGEST_JSON_BYTES + 1)  # a hole, which takes no room
    with pytest.raises(CorruptCheckpointError, match=r"manifest\.json is too large"):
        verify_checkpoint(path)


def test_leftovers_of_a_killed_process_are_removed_and_nothing_else(tmp_path):
    path = write(tmp_path)
    shutil.copytree(path, tmp_path / ".tmp-step-00000004-a0-ab")
    (tmp_path / ".tmp-file").write_text("")
    (tmp_path / ".tmp-link").symlink_to(path)
    remove_leftovers(tmp_path)
    assert names(tmp_path) == [path.name]
    verify_checkpoint(path)
    remove_leftovers(tmp_path / "missing")


@pytest.mark.parametrize("keep", [2, 3])
def test_a_purge_keeps_the_newest_and_the_permanent_ones(tmp_path, keep):
    for step in range(1, 7):
        write(tmp_path, step, permanent=step == 2)
    write(tmp_path, 1, attempt=1)
    purge_checkpoints(tmp_path, attempt=0, keep=keep)
    kept = sorted({2, *range(7 - keep, 7)})
    assert [p.name for p in list_checkpoints(tmp_path, attempt=0)] == [
        checkpoint_name(step, 0) for step in kept
    ]
    assert len(list_checkpoints(tmp_path, attempt=1)) == 1
    assert not list(tmp_path.glob(".tmp-*"))


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def test_nothing_is_purged_while_the_newest_is_not_good(tmp_path):
    for step in (1, 2, 3, 4):
        write(tmp_path, step)
    flip(tmp_path / checkpoint_name(4, 0) / "model.safetensors")
    with pytest.raises(CorruptCheckpointError, match=r"model\.safetensors"):
        purge_checkpoints(tmp_path, attempt=0, keep=2)
    assert len(list_checkpoints(tmp_path)) == 4


def test_a_damaged_checkpoint_does_not_count_as_kept(tmp_path):
    for step in (1, 2, 3, 4):
        write(tmp_path, step)
    flip(tmp_path / checkpoint_name(3, 0) / "model.safetensors")
    purge_checkpoints(tmp_path, attempt=0, keep=2)
    assert [path.name for path in list_checkpoints(tmp_path)] == [
        checkpoint_name(step, 0) for step in (2, 3, 4)
    ]
    verify_checkpoint(tmp_path / checkpoint_name(2, 0))


def test_a_checkpoint_that_was_verified_is_read_again_only_if_it_was_touched(tmp_path, monkeypatch):
    read = []
    monkeypatch.setattr(
        "yxanul.runfolder.saving.verify_checkpoint",
        lambda path: (read.append(path.name), verify_checkpoint(path)),
    )
    verified = Verified()
    for step in (1, 2, 3):
        write(tmp_path, step)
    purge_checkpoints(tmp_path, attempt=0, keep=2, verified=verified)
    assert read == [checkpoint_name(3, 0), checkpoint_name(2, 0)]
    write(tmp_path, 4)
    purge_checkpoints(tmp_path, attempt=0, keep=2, verified=verified)
    assert read[2:] == [checkpoint_name(4, 0)]
    flip(tmp_path / checkpoint_name(4, 0) / "model.safetensors")
    write(tmp_path, 5)
    purge_checkpoints(tmp_path, attempt=0, keep=2, verified=verified)
    assert steps_that_verify(tmp_path) == [3, 5]


def steps_that_verify(folder: Path) -> list[int]:
    found = []
    for path in list_checkpoints(folder):
        with suppress(CorruptCheckpointError):
            found.append(verify_checkpoint(path).step)
    return found


def test_a_folder_that_only_has_the_name_neither_stops_a_purge_nor_is_deleted(tmp_path):
    foreign = tmp_path / checkpoint_name(1, 0)
    foreign.mkdir()
    (foreign / "notes.txt").write_text("mine")
    for step in (2, 3, 4):
        write(tmp_path, step)
    purge_checkpoints(tmp_path, attempt=0, keep=2)
    assert (foreign / "notes.txt").read_text() == "mine"
    assert not (tmp_path / checkpoint_name(2, 0)).exists()


def test_our_writer_and_safetensors_agree_on_the_bytes(tmp_path):
    path = write(tmp_path)
    save_file(MODEL, tmp_path / "again.safetensors")
    again = (tmp_path / "again.safetensors").read_bytes()
    assert (path / "model.safetensors").read_bytes() == again
