"""Every file below a folder, or an error: nothing is passed over because it cannot be reached.

The one idea: a folder is read once. Links to folders are followed after all that lies there itself,
so a text has the name of its own place if it has one, and links that lead in circles end.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import NoReturn

from yxanul.data.progress import BytesRead
from yxanul.errors import CorruptDataError, UsageError, YxanulError
from yxanul.runfolder.durable import refuse_failing_disk

# The system's own on a disk that is mounted there; nobody but root may look into it.
LOST_AND_FOUND = "lost+found"
_MOST_TOLD = 20


def walk_files(root: Path, *, skips: Callable[[str], bool]) -> Iterator[Path]:
    """Yield whatever is no folder below `root`, without the folders whose names are skipped.

    Nor is the lost+found of a disk looked into. A link to a folder that holds `root` is a circle.
    Raises CorruptDataError for a folder that may not be read.
    """
    seen = {str(above) for above in root.resolve().parents}
    waiting = [root]
    while waiting:
        links: list[Path] = []
        for start in waiting:
            for place, folders, files in os.walk(start, onerror=_refuse):
                real, here = os.path.realpath(place), Path(place)
                folders[:] = sorted(n for n in folders if n != LOST_AND_FOUND and not skips(n))
                if real in seen:
                    folders.clear()
                    continue
                seen.add(real)
                links += [here / name for name in folders if (here / name).is_symlink()]
                yield from (here / name for name in files)
        waiting = links


def is_file(path: Path) -> bool:
    """Tell a file from a pipe, a socket or a link to itself.

    Raises UsageError for a link to what is not there, CorruptDataError for what may not be read.
    """
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except FileNotFoundError as error:
        if not path.is_symlink():
            return False  # deleted while we look
        raise UsageError(
            f"{path} is a link to {path.readlink()}, which is not there: bring that back, or "
            "remove the link."
        ) from error
    except OSError as error:
        if error.errno == errno.ELOOP:
            return False
        raise unreadable(path, error) from error


def is_touched(states: Iterable[os.stat_result], *, since: float) -> bool:
    """Tell whether a file was changed, or brought here, after `since` (seconds since 1970)."""
    # The second time is that of a file that was moved here, or is a copy with its old time.
    return any(max(state.st_mtime, state.st_ctime) > since for state in states)


def digest_of(
    files: Sequence[tuple[bytes, Path]], root: Path, *, progress: Callable[[str], None]
) -> tuple[int, str]:
    """Return the bytes of files and 16 digits of a hash of their names, as given, and contents.

    `progress` gets a line about every two seconds, and may raise to stop the work. Raises
    CorruptDataError for all files that may not be read, before one is.
    """
    refuse_all((error for _, file in files if (error := _closed(file))), f"files of {root}")
    digest, total = hashlib.sha256(), sum(_size(file) for _, file in files)
    read = BytesRead(progress, f"{root}: reading for its hash", total=total)
    for name, file in files:
        digest.update(name + f"\0{_size(file)}\0".encode())
        for block in _blocks(file):
            read.add(len(block))
            digest.update(block)
    return total, digest.hexdigest()[:16]


def refuse_all(wrong: Iterable[YxanulError], what: str) -> None:
    """Raise what is `wrong`, if anything is, as one error; the first twenty are told one by one.

    `what` says in words of what they are some.
    """
    # Without the traceback and the cause, which may hold a large text.
    errors = (type(error)(str(error)) for error in wrong)
    first = list(islice(errors, _MOST_TOLD))
    count = len(first) + sum(1 for _ in errors)
    if count == 1:
        raise first[0]
    if first:
        told = "\n".join(map(str, first))
        only = "" if count == len(first) else f", the first {len(first)} are"
        raise type(first[0])(f"{count:,} {what} cannot be read{only}:\n{told}")


def _closed(file: Path) -> CorruptDataError | None:
    """Return why a file may not be read, if it may not."""
    try:
        file.open("rb").close()
    except OSError as error:
        return unreadable(file, error)
    return None


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except OSError as error:
        raise unreadable(file, error) from error


def _blocks(file: Path) -> Iterator[bytes]:
    """Yield what a file holds; an error of whoever takes it is no error of the file."""
    try:
        with file.open("rb") as opened:
            while block := opened.read(1 << 20):
                yield block
    except OSError as error:
        raise unreadable(file, error) from error


def unreadable(path: Path, error: OSError) -> CorruptDataError:
    """Return the error for a file or folder that the system does not let us read.

    Where its disk fails, or is away, a `BrokenDiskError` is raised in its place.
    """
    refuse_failing_disk(error, path)
    return CorruptDataError(
        f"{path} cannot be read ({error.strerror or error}): give this user the right to read it, "
        "or remove it."
    )


def _refuse(error: OSError) -> NoReturn:
    raise unreadable(Path(error.filename), error) from error
