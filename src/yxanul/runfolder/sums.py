"""Sums of what a run leaves behind beside data and checkpoints, which have sums of their own.

The one idea: rows, scores, items and settings are plain files that any program may read, so no
checksum stands in them. When a run ends, RUN/sums.json holds the size and sha256 of each, and tells
later which one is no longer what was written. A file of rows may have grown since.
"""

import hashlib
import json
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path, PurePath, PurePosixPath
from typing import Any

from yxanul.errors import CorruptDataError
from yxanul.runfolder.durable import BLOCK_BYTES, seal, write_json
from yxanul.runfolder.layout import RunFolder, is_run_file, run_files

_LARGEST_BYTES = 16 << 20
Sum = dict[str, Any]
"""Size and sha256 of a file."""


@dataclass(frozen=True)
class Change:
    """A file that is not what the run's last end left."""

    path: str
    """In the run folder."""
    told: str
    """A sentence that names it."""
    wrote: Sum | None = None
    """Of what the run wrote; None: nothing tells, since the sums themselves have changed."""
    found: Sum | None = None
    """Of what is there now; None: it is missing."""


def write_sums(folder: RunFolder, *, damaged: Collection[Change] = ()) -> None:
    """Write RUN/sums.json over the files that are there now.

    One that had changed when the run went on, and that it has not written anew, keeps the sum of
    what it had been: a sum of what is there would make the damage good.
    """
    files = {
        path.relative_to(folder.root).as_posix(): _sum(path, size=None)
        for path in run_files(folder.root)
        if not path.is_symlink() and _has_sum(folder, path.relative_to(folder.root))
    }
    for change in damaged:
        now = _found(folder, change.path, like=change.found)
        if change.wrote is not None and now == change.found:
            files[change.path] = change.wrote
    content: dict[str, Any] = {"files": files}
    write_json(folder.sums, {**content, "sha256": seal(content)})


def find_changes(folder: RunFolder) -> list[Change]:
    """Return every file that is not what the run's last end left.

    There is none where no end has left sums: the run is going on, or was killed.
    """
    if not folder.sums.exists():
        return []
    broken = f"{folder.sums} is not what was written"
    try:
        with folder.sums.open("rb") as file:
            content = json.loads(file.read(_LARGEST_BYTES))
        files = content["files"]
        if content["sha256"] != seal(content):
            return [Change(folder.sums.name, f"{broken}: its own sha256 differs")]
        changes = (
            _change(folder, path, wrote=wrote)
            for path, wrote in files.items()
            if _has_sum(folder, PurePosixPath(path))  # an earlier version summed others, too
        )
        return [change for change in changes if change is not None]
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return [Change(folder.sums.name, broken)]


def refuse_changes(folder: RunFolder) -> None:
    """Raise a `CorruptDataError` that names the first file that has changed."""
    for change in find_changes(folder):
        raise CorruptDataError(
            f"{change.told}; bring a good copy back, or delete {folder.sums.name} to take what is "
            "there, as after a line that you deleted: the run's next end sums all anew"
        )


def forget_sums(folder: RunFolder) -> None:
    """Delete the sums: the files are going to change."""
    folder.sums.unlink(missing_ok=True)


def _has_sum(folder: RunFolder, inside: PurePath) -> bool:
    """Tell whether a file of a run, by its path inside, has a sum: scores may be taken anew."""
    return is_run_file(inside.parts) and inside.parts[0] != folder.evaluation.name


def _change(folder: RunFolder, path: str, *, wrote: Sum) -> Change | None:
    found = _found(folder, path, like=wrote)
    if found == wrote:
        return None
    told = "is missing" if found is None else "is not what the run wrote: its sha256 differs"
    return Change(path, f"{folder.root / path} {told}", wrote, found)


def _found(folder: RunFolder, path: str, *, like: Sum | None) -> Sum | None:
    """Return the sum of a file, of rows up to the size of `like`; None: there is no such file."""
    place = folder.root / path
    if not place.is_file():
        return None
    return _sum(place, size=like["bytes"] if like and place.suffix == ".jsonl" else None)


def _sum(path: Path, *, size: int | None) -> Sum:
    """Return the size and sha256 of a file, or of its first `size` bytes."""
    digest, read = hashlib.sha256(), 0
    with path.open("rb") as file:
        while block := file.read(BLOCK_BYTES if size is None else min(BLOCK_BYTES, size - read)):
            digest.update(block)
            read += len(block)
    return {"bytes": read, "sha256": digest.hexdigest()}
