"""Small steps on the disk that the other files of this room share.

The one idea: a file is there whole or not at all. A large one is written under a temporary name,
synced by its writer, and published; that, and the writing of a small one, is done by
`yxanul.runfolder.durable`. Nothing here knows tokens.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from yxanul.data.strict import PREPARE_AGAIN
from yxanul.errors import CorruptShardError, UsageError
from yxanul.runfolder.checkpoints import CHECKPOINT_NAME
from yxanul.runfolder.durable import BLOCK_BYTES, refuse_absent_disk, writing

TEMPORARY = ".tmp"


def close_unfinished(handle: BinaryIO, error: BaseException | None) -> None:
    """Close a file that `error` (None = nothing) keeps from being finished.

    Closing writes what waits in memory, and a full disk refuses that once more: the first error
    tells it.
    """
    try:
        handle.close()
    except OSError:
        if error is None:
            raise


def reopen(final: Path, size: int) -> tuple[BinaryIO, hashlib._Hash]:
    """Open an unfinished file to be written on after `size` bytes; return it and its sha256 so far.

    What it holds beyond them is cut off, and a name that it got since is taken back. Raises
    `CorruptShardError` if it holds less, `DiskError`.
    """
    temporary = final.with_name(final.name + TEMPORARY)
    digest = hashlib.sha256()
    with writing(final):
        if final.exists():
            final.replace(temporary)
        handle = temporary.open("a+b", buffering=BLOCK_BYTES)
        if handle.seek(0, os.SEEK_END) < size:
            handle.close()
            raise CorruptShardError(
                f"{temporary} is shorter than it was; delete {final.parent} to read the source "
                "anew."
            )
        handle.truncate(size)
        handle.seek(0)
        while block := handle.read(BLOCK_BYTES):
            digest.update(block)
    return handle, digest


def read_blocks(path: Path) -> Iterator[bytes]:
    """Yield a file in blocks of 1 MiB; raise `CorruptShardError` if it cannot be read.

    A disk that is away is a `BrokenDiskError`.
    """
    try:
        with path.open("rb", buffering=0) as handle:
            while block := handle.read(BLOCK_BYTES):
                yield block
    except OSError as error:
        refuse_absent_disk(error, path)
        raise CorruptShardError(
            f"{path} cannot be read: {error.strerror or error}; {PREPARE_AGAIN}."
        ) from error


def regular_file(root: Path, path: str) -> Path:
    """Return `root/path` if it is a plain file reached without a link below `root`.

    `path` is a relative path with slashes. Raises `CorruptShardError` for a missing file, a
    symbolic link (it could lead outside the folder), or anything that is not a file.
    """
    place = root
    for part in path.split("/"):
        place = place / part
        if place.is_symlink():
            raise CorruptShardError(
                f"{place} is a symbolic link; prepared folders hold plain files only. "
                f"Copy the real file there, or {PREPARE_AGAIN}."
            )
    if not place.is_file():
        raise CorruptShardError(
            f"{place} is missing though the manifest names it; put it back, or {PREPARE_AGAIN}."
        )
    return place


def is_checkpoint(folder: Path) -> bool:
    """Tell whether a folder is a model's checkpoint, by its name or its weights."""
    named = CHECKPOINT_NAME.fullmatch(folder.resolve().name) is not None
    return (folder / "model.safetensors").is_file() or (named and folder.is_dir())


def refuse_checkpoint(folder: Path) -> None:
    """Raise `UsageError` if a folder that should hold data is a checkpoint."""
    if is_checkpoint(folder):
        raise UsageError(
            f"{folder} is a checkpoint of a model, no data; name a folder of texts or a prepared "
            "folder with --data, and begin with these weights with --init_from."
        )
