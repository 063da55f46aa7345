"""What a target of the fuzzer is: a reader of outside bytes, and bytes that it accepts."""

import atexit
import shutil
import tempfile
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from yxanul.errors import YxanulError


@dataclass(frozen=True)
class Target:
    """`read` lets pass errors of ours only; `seeds` are valid inputs to begin from."""

    name: str
    read: Callable[[bytes], None]
    seeds: Callable[[], list[bytes]]


REFUSALS: deque[Exception] = deque(maxlen=1)
"""The last refusal since somebody cleared it."""


def refused(call: Callable[..., Any], *args: Any, **more: Any) -> None:
    """Call a reader, to the end of what it yields; to refuse the bytes is its right."""
    with refusing(YxanulError):
        found = call(*args, **more)
        if hasattr(found, "__next__"):
            for _ in found:
                pass


@contextmanager
def refusing(kind: type[Exception]) -> Iterator[None]:
    """Let a reader refuse the bytes with an error of a kind, and keep it."""
    try:
        yield
    except kind as error:
        REFUSALS.append(error)


@contextmanager
def holding(path: Path, content: bytes) -> Iterator[None]:
    """Let a file hold other bytes for a while; after a crash too it is what it was."""
    before = path.read_bytes()
    path.write_bytes(content)
    try:
        yield
    finally:
        path.write_bytes(before)


@cache
def scratch(name: str) -> Path:
    """Return an empty folder, in memory where there is such a disk; it goes with the process."""
    memory = Path("/dev/shm")
    folder = tempfile.mkdtemp(prefix="yxanul-fuzz-", dir=memory if memory.is_dir() else None)
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    inner = Path(folder) / name
    inner.mkdir()
    return inner
