"""Writing checkpoints, so that a reader sees a whole one or none, and clearing old ones away.

A checkpoint is written into a `.tmp-` folder, every file fsynced, the manifest last, then renamed.
None is ever overwritten, and none goes before a newer one has been verified.
"""

import errno
import os
import shutil
import uuid
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.numpy import save_file

from yxanul.errors import CorruptCheckpointError
from yxanul.failpoints import failpoint
from yxanul.runfolder.checkpoints import (
    FORMAT,
    INFO_TYPES,
    LATER_TYPES,
    MANIFEST_NAME,
    CheckpointInfo,
    Tensors,
    list_checkpoints,
    read_manifest,
    verify_checkpoint,
)
from yxanul.runfolder.durable import (
    disk_error,
    error_in,
    seal,
    sha256_of,
    sync_file,
    sync_folder,
    write_atomic,
    write_json,
    writing,
)
from yxanul.runfolder.lineage import SET_ASIDE, record_event

LATEST_NAME = "latest"


def save_checkpoint(
    folder: Path,
    info: CheckpointInfo,
    *,
    model: Tensors,
    optimizer: Tensors,
    state: dict[str, Any],
    is_again: bool = False,
) -> None:
    """Write one checkpoint to `info.path`, whole or not at all; a full disk is a `DiskError`.

    The run has written to `folder` before: one that it may not write any more is a
    `BrokenDiskError`. `is_again` says that a try has failed, which may have been after its rename.
    """
    beside = folder / f".tmp-{info.name}-{uuid.uuid4().hex[:8]}"
    try:
        if is_again and _is_there(info):
            return sync_folder(folder)
        # A rename would replace an empty folder of that name without a word.
        if info.path.exists():
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
        beside.mkdir()
        save_file(dict(model), beside / "model.safetensors")
        failpoint("checkpoint.writing")
        save_file(dict(optimizer), beside / "optimizer.safetensors")
        write_json(beside / "state.json", state)
        files = {}
        for path in sorted(beside.iterdir()):
            sync_file(path)
            files[path.name] = {"bytes": path.stat().st_size, "sha256": sha256_of(path)}
        write_json(beside / MANIFEST_NAME, _manifest(info, files))
        sync_folder(beside)
        failpoint("checkpoint.written")
        beside.rename(info.path)
        failpoint("checkpoint.renamed")
        return sync_folder(folder)
    except OSError as error:
        shutil.rmtree(beside, ignore_errors=True)
        raise disk_error(error, info.path, was_writable=True) from error
    except SafetensorError as error:  # safetensors reports the disk's errors as its own
        shutil.rmtree(beside, ignore_errors=True)
        raise disk_error(error_in(str(error)), info.path, was_writable=True) from error


def _is_there(info: CheckpointInfo) -> bool:
    try:
        return verify_checkpoint(info.path) == info
    except CorruptCheckpointError:
        return False


def write_latest(checkpoint: Path) -> None:
    """Name the newest checkpoint beside it, for people and scripts: what verifies is the truth."""
    write_atomic(checkpoint.with_name(LATEST_NAME), checkpoint.name + "\n")


def set_aside(path: Path, error: CorruptCheckpointError, *, lineage: Path) -> None:
    """Rename a checkpoint that does not verify, so that nothing takes it for one; record it."""
    aside = path.with_name(f"bad-{path.name}-{uuid.uuid4().hex[:8]}")
    with writing(path):
        path.rename(aside)
        sync_folder(path.parent)
    record_event(lineage, SET_ASIDE, checkpoint=path.name, to=aside.name, why=str(error))


def remove_leftovers(folder: Path) -> None:
    """Delete what a killed process left half written or half deleted."""
    for path in folder.glob(".tmp-*"):
        _remove(path)


class Verified:
    """The checkpoints that this process found whole: one that lies untouched is not read again.

    Reading back 3.6 GB takes a core from the steps for seconds.
    """

    def __init__(self) -> None:
        self._stamps: dict[Path, list[tuple[str, int, int, int]]] = {}

    def check(self, path: Path) -> None:
        """Raise what `verify_checkpoint` raises, unless it passed and no file was touched since."""
        before = _stamps(path)
        if self._stamps.get(path) != before:
            verify_checkpoint(path)
            self._stamps[path] = before


def _stamps(path: Path) -> list[tuple[str, int, int, int]]:
    try:
        found = [(entry.name, entry.lstat()) for entry in sorted(path.iterdir())]
    except OSError:
        return []  # whoever verifies it says what is wrong
    return [(name, stat.st_ino, stat.st_size, stat.st_mtime_ns) for name, stat in found]


def purge_checkpoints(
    folder: Path, *, attempt: int, keep: int, verified: Verified | None = None
) -> None:
    """Delete the attempt's checkpoints older than its newest `keep` that verify.

    Permanent ones stay, and so does whatever has no proper manifest: it is not known to be ours.
    The newest is verified first, and nothing is deleted if it is not good: that is a
    `CorruptCheckpointError`. What `verified` knows is not read again.
    """
    verified = verified or Verified()
    paths = list_checkpoints(folder, attempt=attempt)
    if len(paths) <= keep:
        return
    verified.check(paths[-1])
    kept = 1
    for path in reversed(paths[:-1]):
        if kept < keep:
            kept += _is_whole(path, verified)
        elif is_replaceable(path):
            # Renamed first: a kill in the middle leaves a .tmp- folder, never half a checkpoint.
            doomed = path.with_name(f".tmp-purged-{path.name}-{uuid.uuid4().hex[:8]}")
            with writing(path):
                path.rename(doomed)
                sync_folder(folder)
                failpoint("checkpoint.purging")
            _remove(doomed)


def _is_whole(path: Path, verified: Verified) -> bool:
    try:
        verified.check(path)
    except CorruptCheckpointError:
        return False
    return True


def is_replaceable(path: Path) -> bool:
    """Tell whether a checkpoint may go once newer ones are there; damage is left to be seen."""
    try:
        return not read_manifest(path)[0].permanent
    except CorruptCheckpointError:
        return False


def _remove(path: Path) -> None:
    with writing(path):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def _manifest(info: CheckpointInfo, files: dict[str, Any]) -> dict[str, Any]:
    fields = {key: getattr(info, key) for key in INFO_TYPES | LATER_TYPES}
    manifest = {"format": FORMAT, **fields, "files": files}
    return {**manifest, "sha256": seal(manifest)}
