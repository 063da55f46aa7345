"""The texts that are known: a set, their signatures, and memory that stays flat."""

import hashlib
import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.needs import PROC
from yxanul.data.duplicates.known import KnownTexts
from yxanul.data.duplicates.minhash import HASHES
from yxanul.errors import BrokenDiskError, DiskError

GROWTH = """
import resource, sys
from pathlib import Path
import numpy as np
from yxanul.data.duplicates.known import KnownTexts
from yxanul.data.duplicates.minhash import HASHES

def peak_kib():
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmHWM"))

draw = np.random.default_rng(1)
with KnownTexts(Path(sys.argv[1]), cache_kib=2048) as known:
    for count in (4_000, 12_000):
        for _ in range(count):
            digest = draw.bytes(32)
            known.add(digest)
            known.sign(draw.integers(0, 1 << 16, size=HASHES, dtype=np.uint16), digest)
        print(peak_kib())
"""


def digest_of(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", errors="surrogatepass")).digest()


@given(texts=st.lists(st.text(max_size=3), max_size=60))
def test_the_known_texts_are_a_set(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str]
) -> None:
    held: set[str] = set()
    with KnownTexts(tmp_path_factory.getbasetemp()) as known:
        for text in texts:
            assert (digest_of(text) in known) == (text in held)
            assert known.add(digest_of(text)) == (text not in held)
            held.add(text)
        assert known.texts == len(held)


def test_digests_at_both_ends_are_known(tmp_path: Path) -> None:
    with KnownTexts(tmp_path) as known:
        for digest in (bytes(32), b"\xff" * 32, b"\x7f" * 32, b"\x80" * 32):
            assert known.add(digest)
            assert not known.add(digest)


@pytest.mark.parametrize("count", [0, 1, 3000])
def test_signatures_grow_and_are_found_again(tmp_path: Path, count: int) -> None:
    draw = np.random.default_rng(1)
    rows = draw.integers(0, 1 << 16, size=(count, HASHES), dtype=np.uint16)
    with KnownTexts(tmp_path) as known:
        for number, row in enumerate(rows):
            assert known.nearest(row, least=0.5) is None
            known.sign(row, number.to_bytes(32, "little"))
        assert known.signatures == count
        for number, row in enumerate(rows):
            near = known.nearest(row, least=1.0)
            assert near is not None
            assert near.digest == number.to_bytes(8, "little")
    assert list(tmp_path.iterdir()) == [], "the database has no name"


@PROC
def test_four_times_the_texts_take_no_more_memory(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", GROWTH, tmp_path], capture_output=True, text=True, check=True
    )
    few, many = map(int, done.stdout.split())
    # 12,000 more texts are 14 MB on the disk.
    assert many - few < 1 << 10


def test_a_full_disk_is_named(tmp_path: Path) -> None:
    with KnownTexts(tmp_path) as known:
        known.add(bytes(32))
        # SQLite's own way to run out of room.
        known._database.execute("PRAGMA max_page_count = 100")
        with pytest.raises(DiskError, match=rf"the disk is full: .*{tmp_path.name}"):
            sign_many(known)


def test_a_disk_that_refuses_is_named(tmp_path: Path) -> None:
    with (
        KnownTexts(tmp_path, cache_kib=256) as known,
        file_limit(1 << 20),
        pytest.raises(BrokenDiskError, match=tmp_path.name),
    ):
        sign_many(known)


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with KnownTexts(tmp_path / "none") as known, pytest.raises(DiskError, match="none"):
        known.add(bytes(32))


def sign_many(known: KnownTexts) -> None:
    draw = np.random.default_rng(1)
    for _ in range(60_000):
        known.sign(draw.integers(0, 1 << 16, size=HASHES, dtype=np.uint16), draw.bytes(32))


@contextmanager
def file_limit(size: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
