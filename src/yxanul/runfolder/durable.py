"""Files that are whole or absent: write beside, fsync, rename, fsync the folder. Locks of files."""

import errno
import fcntl
import glob
import hashlib
import json
import os
import re
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from yxanul.errors import BrokenDiskError, DiskError, UsageError, YxanulError

BLOCK_BYTES = 1 << 20
FULL = (errno.ENOSPC, errno.EDQUOT)
"""Numbers of a disk that has no room."""
# Of a network's disk that is away: nothing is known of what lies there.
_AWAY = (errno.ESTALE, errno.ENODEV, errno.ENOTCONN, errno.ETIMEDOUT, errno.EHOSTDOWN)
_UNREADABLE = (*_AWAY, errno.EIO)
_FAILING = (*_UNREADABLE, errno.EROFS)
# Not all file systems of a network know locks. On macOS the last two are different numbers.
_LOCKLESS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP)
_REFUSING = (errno.EACCES, errno.EPERM)
# No file is written for so long; of another machine's processes nothing else is known.
_ABANDONED_S = 86_400.0


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn an `OSError` inside the block into the `disk_error` that names `path`."""
    try:
        yield
    except OSError as error:
        raise disk_error(error, path) from error


@contextmanager
def reading(path: Path | None = None) -> Iterator[None]:
    """Turn an `OSError` of a failing disk inside the block into a `BrokenDiskError`.

    It names the file that the system names, else `path`: an error of an open file names none.
    Others pass: that a file is not there, or not for this user, is no failure of the disk.
    """
    try:
        yield
    except OSError as error:
        refuse_failing_disk(error, path)
        raise


def refuse_failing_disk(error: OSError, path: Path | None) -> None:
    """Raise a `BrokenDiskError` where something could not be read because its disk fails.

    It names what `reading` does.
    """
    if error.errno in _UNREADABLE:
        raise _broken(error.errno, error.filename or path) from error


def refuse_absent_disk(error: Exception, path: Path) -> None:
    """Raise a `BrokenDiskError` where `path` could not be read because its disk is away.

    Where memory was not there it is a `MemoryError`: nothing is known of what lies there either.
    """
    number = number_of(error)
    if number in _AWAY:
        raise _broken(number, path) from error
    if number == errno.ENOMEM:
        raise MemoryError(str(error)) from error


def write_atomic(path: Path, text: str, *, is_shared: bool = False) -> None:
    """Write `text` to `path`: a reader, or a crash, sees the old content or the new.

    It holds what `as_bytes` returns. `is_shared`: other processes may write it at the same time,
    and who ends last has the word.
    """
    content = as_bytes(text)
    with writing(path):
        beside = _name_of_its_own(path) if is_shared else path.with_name(f".{path.name}.tmp")
        try:
            with beside.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            beside.replace(path)
        except OSError:
            # Half a file must not go on filling a full disk.
            beside.unlink(missing_ok=True)
            raise
        sync_folder(path.parent)


def _name_of_its_own(path: Path) -> Path:
    """Return a name beside `path` that no other process has; delete what killed ones left there."""
    for left in path.parent.glob(f".{glob.escape(path.name)}.*.tmp"):
        # Another one may have renamed it by now, or it is not ours to delete.
        with suppress(FileNotFoundError, PermissionError):
            if time.time() - left.stat().st_mtime > _ABANDONED_S:
                left.unlink()
    return path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")


def as_bytes(text: str) -> bytes:
    """Return UTF-8, in which what it cannot hold (bytes of a command line) becomes an escape."""
    return text.encode("utf-8", errors="backslashreplace")


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON by `write_atomic`; NaN and infinity are refused."""
    write_atomic(path, json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def seal(manifest: dict[str, Any]) -> str:
    """Return the sha256 of a JSON object's content, its own `sha256` left out."""
    content = {key: value for key, value in manifest.items() if key != "sha256"}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def try_lock(file: IO[Any], how: int, *, place: Path) -> bool:
    """Lock an open file, shared or alone, and do not wait; tell whether it was to be had.

    Where the file system knows no locks this is a `UsageError` that names `place`.
    """
    try:
        fcntl.flock(file, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in _LOCKLESS:
            raise
        raise UsageError(
            f"The file system of {place} cannot lock a file ({error.strerror}), and without that "
            "two processes could write there at once; choose a folder on a disk of this machine."
        ) from error
    return True


def sync_file(path: Path) -> None:
    """Wait until the bytes of the file at `path` are on the disk."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def sync_folder(path: Path) -> None:
    """Wait until the names inside the folder at `path` are on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def publish(temporary: Path, final: Path) -> None:
    """Rename a synced file to its final name, and sync the folder."""
    temporary.replace(final)
    sync_folder(final.parent)


def sha256_of(path: Path) -> str:
    """Return the sha256 of the file at `path`, read in blocks, as 64 hexadecimal digits."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()


def number_of(error: BaseException) -> int | None:
    """Return the system's number of an error, which a library in Rust tells in words alone."""
    known: int | None = getattr(error, "errno", None)
    return known or error_in(str(error)).errno


def error_in(words: str) -> OSError:
    """Return the `OSError` that a library in Rust reports in words: "... (os error 5) ..."."""
    number = re.search(r"\(os error (\d+)\)", words)
    return OSError(int(number[1]), words) if number else OSError(words)


def refused_path(error: OSError) -> YxanulError | None:
    """Return what the system's refusal is told as: a full disk, or a path that cannot be used.

    An error of a file that is open does not name it: None, unless the disk is full.
    """
    if error.filename is not None and error.errno in FULL:
        return disk_error(error, Path(os.fsdecode(error.filename)))
    if error.filename is not None:
        return UsageError(f"{error.filename} cannot be used: {error.strerror}; name another path")
    if error.errno in FULL:
        return DiskError(
            "the disk is full: a file could not be written; free some space where this command "
            "writes and where temporary files lie (TMPDIR)"
        )
    return None


def disk_error(
    error: OSError, path: Path, *, was_writable: bool = False
) -> DiskError | BrokenDiskError:
    """Say in one sentence why `path` could not be written; what may pass is an error of its own.

    That a folder may not be written may pass, too, where it `was_writable` before.
    """
    if was_writable and error.errno in _REFUSING:
        return BrokenDiskError(
            f"{path} may not be written any more ({os.strerror(error.errno)}); give the folder "
            "its rights back"
        )
    if error.errno in _FAILING:
        return _broken(error.errno, path)
    if error.errno in FULL:
        return DiskError(f"the disk is full: {path} could not be written; free some space")
    reason = os.strerror(error.errno) if error.errno else str(error)
    return DiskError(f"{path} could not be written ({reason}); check the folder and its rights")


def _broken(number: int, place: str | Path | None) -> BrokenDiskError:
    """Say that the disk failed, and where if that is known: an open file is not named."""
    at = "" if place is None else f" at {place}"
    return BrokenDiskError(f"the disk failed{at} ({os.strerror(number)}); is it still there?")
