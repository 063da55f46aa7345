"""Tokens on disk come back as they went, whatever the cut into files."""

import hashlib
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.data.memory import write_shards
from yxanul.data.prepared.shards import TokenStream
from yxanul.errors import CorruptShardError, DiskError

ARRAYS = st.lists(st.lists(st.integers(0, 50_256), max_size=12), max_size=6)


def as_arrays(parts: list[list[int]]) -> list[np.ndarray]:
    return [np.array(part, dtype=np.uint16) for part in parts]


@settings(max_examples=20)
@given(parts=ARRAYS, shard_tokens=st.integers(1, 9))
def test_writing_and_reading_is_the_identity(
    tmp_path_factory: pytest.TempPathFactory, parts: list[list[int]], shard_tokens: int
) -> None:
    root = tmp_path_factory.mktemp("shards")
    files = write_shards(root / "s", "train", parts=as_arrays(parts), shard_tokens=shard_tokens)
    expected = [token for part in parts for token in part]
    stream = TokenStream([root / file.path for file in files])
    assert len(stream) == len(expected)
    assert stream.read(0, len(stream)).tolist() == expected
    assert all(file.tokens == shard_tokens for file in files[:-1])
    for file in files:
        content = (root / file.path).read_bytes()
        assert (file.bytes, file.sha256) == (len(content), hashlib.sha256(content).hexdigest())


@settings(max_examples=20)
@given(start=st.integers(0, 25), count=st.integers(0, 25), shard_tokens=st.integers(1, 30))
def test_reading_crosses_borders(
    tmp_path_factory: pytest.TempPathFactory, start: int, count: int, shard_tokens: int
) -> None:
    root = tmp_path_factory.mktemp("borders")
    tokens = np.arange(25, dtype=np.uint16)
    files = write_shards(root / "s", "train", parts=[tokens], shard_tokens=shard_tokens)
    stream = TokenStream([root / file.path for file in files])
    if start + count > 25:
        with pytest.raises(IndexError):
            stream.read(start, count)
    else:
        assert stream.read(start, count).tolist() == list(range(start, start + count))


def test_ids_are_little_endian_uint16(tmp_path: Path) -> None:
    write_shards(tmp_path / "s", "train", parts=as_arrays([[1, 258, 50256]]))
    assert (tmp_path / "s/train-00000.bin").read_bytes() == bytes([1, 0, 2, 1, 0x50, 0xC4])


def test_what_is_read_is_a_copy(tmp_path: Path) -> None:
    files = write_shards(tmp_path / "s", "train", parts=as_arrays([[1, 2, 3]]))
    stream = TokenStream([tmp_path / file.path for file in files])
    stream.read(0, 3)[:] = 7
    assert stream.read(0, 3).tolist() == [1, 2, 3]


def test_an_empty_file_between_others_holds_nothing(tmp_path: Path) -> None:
    for name, content in (("a", b"\1\0"), ("b", b""), ("c", b"\2\0")):
        (tmp_path / name).write_bytes(content)
    stream = TokenStream([tmp_path / name for name in "abc"])
    assert stream.read(0, 2).tolist() == [1, 2]


def test_a_shard_of_odd_size_is_refused(tmp_path: Path) -> None:
    (tmp_path / "odd.bin").write_bytes(b"\1\2\3")
    with pytest.raises(CorruptShardError, match=r"odd\.bin has 3 bytes"):
        TokenStream([tmp_path / "odd.bin"])


def test_an_id_outside_the_vocabulary_is_never_handed_out(tmp_path: Path) -> None:
    (tmp_path / "high.bin").write_bytes(np.array([1, 50257], dtype="<u2").tobytes())
    stream = TokenStream([tmp_path / "high.bin"])
    assert stream.read(0, 1).tolist() == [1]
    with pytest.raises(CorruptShardError, match=r"high\.bin holds the token id 50257"):
        stream.read(0, 2)


def test_a_shard_has_a_temporary_name_until_it_is_synced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(DiskError, match=r"disk is full: .*train-00000\.bin could not"):
        write_shards(tmp_path / "s", "train", parts=as_arrays([[1, 2]]))
    assert [path.name for path in (tmp_path / "s").iterdir()] == ["train-00000.bin.tmp"]
