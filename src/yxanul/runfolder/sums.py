"""Sums of what a run leaves behind beside data and checkpoints, which have sums of their own.

The one idea: rows, scores, items and settings are plain files that any program may read, so no
checksum stands in them. When a run ends, RUN/sums.json holds the size and sha256 of each, and tells
later which one is no longer what was written. A file of rows may have grown since.
"""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from yxanul.errors import CorruptDataError
from yxanul.runfolder.durable import BLOCK_BYTES, seal, write_json
from yxanul.runfolder.layout import RunFolder

_LEFT_OUT = {"data", "checkpoints", "tensorboard", "report.html", "sums.json", ".lock"}
_LARGEST_BYTES = 16 << 20


def write_sums(folder: RunFolder) -> None:
    """Write RUN/sums.json over the files that are there now."""
    files = {path: _sum(folder.root / path, size=None) for path in _paths(folder)}
    content: dict[str, Any] = {"files": files}
    write_json(folder.sums, {**content, "sha256": seal(content)})


def changed_files(folder: RunFolder) -> list[str]:
    """Return a sentence for every file that is not what the run's last end left.

    There is none where no end has left sums: the run is going on, or was killed.
    """
    if not folder.sums.exists():
        return []
    try:
        with folder.sums.open("rb") as file:
            content = json.loads(file.read(_LARGEST_BYTES))
        files = content["files"]
        if content["sha256"] != seal(content):
            return [f"{folder.sums} is not what was written: its own sha256 differs"]
        return [told for path, about in files.items() if (told := _told(folder, path, about=about))]
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return [f"{folder.sums} is not what was written"]


def refuse_changes(folder: RunFolder) -> None:
    """Raise a `CorruptDataError` that names the first file that has changed."""
    for told in changed_files(folder):
        raise CorruptDataError(f"{told}; bring a good copy back")


def forget_sums(folder: RunFolder) -> None:
    """Delete the sums: the files are going to change."""
    folder.sums.unlink(missing_ok=True)


def _told(folder: RunFolder, path: str, *, about: dict[str, Any]) -> str | None:
    place = folder.root / path
    if not place.is_file():
        return f"{place} is missing"
    now = _sum(place, size=about["bytes"] if place.suffix == ".jsonl" else None)
    return None if now == about else f"{place} is not what the run wrote: its sha256 differs"


def _sum(path: Path, *, size: int | None) -> dict[str, Any]:
    """Return the size and sha256 of a file, or of its first `size` bytes."""
    digest, read = hashlib.sha256(), 0
    with path.open("rb") as file:
        while block := file.read(BLOCK_BYTES if size is None else min(BLOCK_BYTES, size - read)):
            digest.update(block)
            read += len(block)
    return {"bytes": read, "sha256": digest.hexdigest()}


def _paths(folder: RunFolder) -> Iterator[str]:
    for path in sorted(folder.root.rglob("*")):
        inside = path.relative_to(folder.root)
        if inside.parts[0] not in _LEFT_OUT and path.is_file() and not path.is_symlink():
            yield inside.as_posix()
