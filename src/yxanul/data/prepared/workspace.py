"""Own the folder that is being prepared, and clear what a killed run left in it.

The one idea: OUT/preparing.json names the sources of a run in progress, each with its stage, and is
locked while it lives. For sources that the manifest does not name, that file is the proof that
their shards are our own unfinished work; only files with our names in those sources' folders are
ever removed.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from yxanul.data.prepared.manifest import MANIFEST_NAME, Manifest, is_plain_name, load_manifest
from yxanul.data.prepared.unfinished import UNFINISHED_NAME
from yxanul.data.walk import LOST_AND_FOUND
from yxanul.errors import CorruptShardError, UsageError, YxanulError
from yxanul.runfolder.durable import refuse_absent_disk, sync_folder, try_lock, writing

MARKER_NAME = "preparing.json"
_LARGEST_MARKER_BYTES = 1 << 20
_OURS = re.compile(
    r"((train|validation)(-\d{5}\.bin|\.documents\.jsonl|\.signatures\.bin)|dropped\.jsonl)(\.tmp)?"
    r"|\.?unfinished\.json(\.tmp)?"
)


@contextmanager
def workspace(
    out: Path, sources: Mapping[str, str], *, held: Manifest | None, keep: Callable[[str], bool]
) -> Iterator[None]:
    """Hold `out` to add `sources`, {name: stage}, to those of the manifest `held` (None: no such).

    Inside the block nothing is where they will be written but what `keep(name)` lets stay: other
    leftovers are removed first. When the block ends well, the marker goes. After an error of ours
    what was written goes too, except a source that can be gone on with (it has an
    unfinished.json), which stays with the marker; a kill leaves everything. Raises `UsageError`
    if something that is not ours is in the way, or what was read for other stages than those of
    `sources`, or if another process is preparing; `DiskError` if `out` cannot be written.
    """
    marker = out / MARKER_NAME
    with writing(out):
        out.mkdir(parents=True, exist_ok=True)
    if not marker.exists():
        _refuse_foreign(out, sources, held=held)
    with writing(marker):
        handle = marker.open("a+b")
    with handle:
        _lock(handle, out, held=held)
        handle.seek(0)
        left = _named(handle.read(_LARGEST_MARKER_BYTES))
        _finish(out, _published(left, held))
        begun = {n: stage for n, stage in left.items() if _is_unfinished(out, n, held=held)}
        _refuse_loss(out, begun, sources=sources)
        kept = {name for name in begun if keep(name)}
        _clear(out, set(left) - kept, held=held)
        _refuse_foreign(out, sources, held=held, kept=kept)
        _record(handle, marker, sources=sources)
        try:
            yield
        except (YxanulError, KeyboardInterrupt):
            # The manifest is read again: the new one may have been published before the error.
            now = _manifest(out)
            kept = {name for name in sources if _is_unfinished(out, name, held=now)}
            _clear(out, set(sources) - kept, held=now)
            if not kept:
                _remove(marker)
            raise
        _finish(out, sources)
        _remove(marker)


@contextmanager
def holding(out: Path, *, held: Manifest | None) -> Iterator[None]:
    """Hold `out`, whose manifest is `held`, while files are copied into it.

    Nothing in it is looked at or removed. Raises `UsageError` if another process is at work there,
    `DiskError` if `out` cannot be written.
    """
    marker = out / MARKER_NAME
    with writing(out):
        out.mkdir(parents=True, exist_ok=True)
        handle = marker.open("a+b")
    with handle:
        _lock(handle, out, held=held)
        try:
            yield
        finally:
            # One that names sources is the proof that what a killed `prepare` left is ours.
            if not os.fstat(handle.fileno()).st_size:
                _remove(marker)


def sweep(out: Path, held: Manifest) -> None:
    """Remove what a run left that was killed after it had published its manifest.

    Where another process is at work, or where sources wait to be gone on with, nothing is touched.
    """
    marker = out / MARKER_NAME
    if not marker.exists():
        return
    with writing(marker):
        handle = marker.open("a+b")
    with handle:
        if not _take_lock(handle, out):
            return  # its owner will remove it
        handle.seek(0)
        left = _named(handle.read(_LARGEST_MARKER_BYTES))
        _finish(out, _published(left, held))
        if all(name in held.sources for name in left):
            _remove(marker)


def unfinished(root: Path, *, held: Container[str]) -> set[str]:
    """Return the sources that a killed or running `prepare` has begun, without those in `held`."""
    marker = root / MARKER_NAME
    try:
        with marker.open("rb") as handle:
            content = handle.read(_LARGEST_MARKER_BYTES)
    except FileNotFoundError:
        return set()
    except OSError as error:
        refuse_absent_disk(error, marker)
        raise CorruptShardError(
            f"{marker} cannot be read: {error.strerror or error}; move it away."
        ) from error
    return {name for name in _named(content) if name not in held}


def _is_unfinished(out: Path, name: str, *, held: Manifest | None) -> bool:
    """Return whether a source can be gone on with."""
    folder = out / name
    is_held = held is not None and name in held.sources
    return not is_held and not folder.is_symlink() and (folder / UNFINISHED_NAME).is_file()


def _published(names: Iterable[str], held: Manifest | None) -> list[str]:
    return [name for name in names if held is not None and name in held.sources]


def _finish(out: Path, names: Iterable[str]) -> None:
    """Remove the record of how far sources were read, which are whole now."""
    for name in names:
        _remove(out / name / UNFINISHED_NAME)


def _remove(file: Path) -> None:
    with writing(file):
        file.unlink(missing_ok=True)


def _lock(handle: IO[bytes], out: Path, *, held: Manifest | None) -> None:
    if not _take_lock(handle, out):
        raise UsageError(
            f"Another process is preparing {out}; wait for it or choose another folder."
        )
    # The other process may have ended between our look for its manifest and this lock; then it
    # removed the marker that we opened, or published a manifest that we have not seen.
    if os.fstat(handle.fileno()).st_nlink == 0 or _manifest(out) != held:
        raise UsageError(f"Another process has just prepared {out}; start again to use it.")


def _take_lock(handle: IO[bytes], out: Path) -> bool:
    """Lock the marker of `out`; return False where another process has."""
    with writing(out):
        return try_lock(handle, fcntl.LOCK_EX, place=out)


def _manifest(out: Path) -> Manifest | None:
    return load_manifest(out) if (out / MANIFEST_NAME).exists() else None


def _named(content: bytes) -> dict[str, object]:
    """Return the sources that a marker names, with their stages, which older ones lack (None).

    There are none if its writer was killed before writing.
    """
    try:
        value = json.loads(content)
    except (ValueError, RecursionError):
        return {}
    names = value if isinstance(value, list | dict) else []
    found = [name for name in names if isinstance(name, str) and is_plain_name(name)]
    return {name: value[name] if isinstance(value, dict) else None for name in found}


def _record(handle: IO[bytes], marker: Path, *, sources: Mapping[str, str]) -> None:
    with writing(marker):
        handle.truncate(0)
        handle.write(json.dumps(dict(sources)).encode())
        handle.flush()
        os.fsync(handle.fileno())
        sync_folder(marker.parent)


def _refuse_loss(out: Path, begun: Mapping[str, object], *, sources: Mapping[str, str]) -> None:
    """Refuse to remove what was read for other stages than those of `sources`.

    Where nothing tells its stage, for other sources.
    """
    lost = {
        name: f"the source {name}" if stage is None else stage
        for name, stage in begun.items()
        if (name not in sources if stage is None else stage not in sources.values())
    }
    if lost:
        raise UsageError(
            f"{out} holds what was read for {', '.join(dict.fromkeys(map(str, lost.values())))}, "
            "which this command does not prepare: start the command that does, choose another "
            f"--out, or delete {', '.join(str(out / name) for name in lost)}"
        )


def _clear(out: Path, names: Iterable[str], *, held: Manifest | None) -> None:
    """Remove the unfinished work on `names`, but never a source that the manifest holds."""
    for name in names:
        folder = out / name
        if (held and name in held.sources) or folder.is_symlink() or not folder.is_dir():
            continue
        with writing(folder):
            for file in folder.iterdir():
                if _OURS.fullmatch(file.name):
                    file.unlink()
            if not any(folder.iterdir()):
                folder.rmdir()


def _refuse_foreign(
    out: Path, names: Container[str], *, held: Manifest | None, kept: Container[str] = ()
) -> None:
    """Refuse what was there before us; beside a manifest, only where the sources are to go."""
    foreign = sorted(
        entry.name
        for entry in out.iterdir()
        if entry.name not in (MARKER_NAME, LOST_AND_FOUND)
        and entry.name not in kept
        and not entry.name.startswith(".")
        and (held is None or entry.name in names)
    )
    if foreign:
        raise UsageError(
            f"{out} holds {foreign[0]}, which `yxanul prepare` did not write; choose an empty "
            "folder or move that away."
        )
