"""Prepared folders on object storage, the hub, or wherever else fsspec reaches.

The one idea: the manifest is the last file to arrive on either side, so what has one is whole; and
every byte that comes back is compared with it, whatever the storage did to it. Either way goes on
where it was interrupted, by whole files.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from yxanul.data.files import TEMPORARY, publish
from yxanul.data.manifest import (
    LARGEST_MANIFEST_BYTES,
    MANIFEST_NAME,
    IndexFile,
    Manifest,
    ShardFile,
    load_manifest,
    parse_manifest,
)
from yxanul.data.verify import verify
from yxanul.data.workspace import holding
from yxanul.errors import (
    CorruptShardError,
    DiskError,
    UsageError,
)
from yxanul.runfolder.durable import sha256_of, write_atomic, writing
from yxanul.runfolder.storage import Place, reaching
from yxanul.units import format_bytes

Say = Callable[[str], None]


def holds_prepared(address: str) -> bool:
    """Return whether a whole prepared folder lies at an address; raise what storage refuses."""
    with reaching(address):
        return Place(address).exists(MANIFEST_NAME)


def remote_manifest(address: str) -> Manifest | None:
    """Return the manifest of the whole prepared folder at an address; None = there is none.

    Raises what storage refuses, and `CorruptShardError` for a damaged manifest.
    """
    with reaching(address):
        found = _manifest_at(Place(address), address)
    return None if found is None else found[1]


def upload(root: Path, address: str, *, say: Say) -> None:
    """Copy the prepared folder `root` to an address, after every byte of it was verified.

    Files that lie there byte for byte are left; the manifest is written last. Raises `UsageError`
    if other or more data lies there or the storage refuses, `InfrastructureError` if it fails.
    """
    manifest = load_manifest(root)
    verify(manifest, root, progress=say)
    content = (root / MANIFEST_NAME).read_bytes()
    with reaching(address):
        place = Place(address)
        there = _manifest_at(place, address)
        if there is not None:
            _, theirs = there
            _refuse_other(manifest, theirs, address=address)
            # Their manifest is replaced, and what ours does not name would be out of reach.
            _refuse_loss(theirs, manifest, places=(address, str(root)))
        files = list(manifest.files())
        for number, file in enumerate(files, start=1):
            # Of an upload that was interrupted, or of other data: only its bytes can tell.
            if not place.holds(file.path, size=file.bytes, sha256=file.sha256):
                place.put(root / file.path, file.path)
                say(f"{address}: {number} of {len(files)} files, {file.path}")
        for card in sorted((root / "cards").glob("*.*")):
            place.put(card, f"cards/{card.name}")
        place.put(root / MANIFEST_NAME, MANIFEST_NAME)
        if _read_manifest(place, address) != content:
            raise UsageError(f"{address} gives back another manifest than it was given")
    say(f"{address} holds {len(files)} files and their manifest")


def download(address: str, out: Path, *, say: Say) -> Manifest:
    """Copy the prepared folder at an address to `out`, and compare every byte with its manifest.

    Files that are in `out` already, as the manifest says, are left. Raises `UsageError` if there is
    none, `out` holds other or more data, or another process is at work there, `CorruptShardError`
    for a file that is not as recorded, and `DiskError`.
    """
    with reaching(address):
        place = Place(address)
        there = _manifest_at(place, address)
        if there is None:
            raise UsageError(f"{address} holds no {MANIFEST_NAME}, so no prepared folder")
        content, manifest = there
        held = load_manifest(out) if (out / MANIFEST_NAME).is_file() else None
        if held is not None:
            _refuse_other(held, manifest, address=address)
            _refuse_loss(held, manifest, places=(str(out), address))
        with holding(out, held=held):
            missing = [file for file in manifest.files() if not _is_here(file, out)]
            _check_room(missing, out)
            for number, file in enumerate(missing, start=1):
                _get(place, out, file=file)
                say(f"{address}: {number} of {len(missing)} files, {file.path}")
            write_atomic(out / MANIFEST_NAME, content.decode())
    return load_manifest(out)


def _manifest_at(place: Place, address: str) -> tuple[bytes, Manifest] | None:
    """Return the manifest that lies at an address, as it is written and read; None: none does."""
    if not place.exists(MANIFEST_NAME):
        return None
    content = _read_manifest(place, address)
    return content, parse_manifest(content, f"{address}/{MANIFEST_NAME}")


def _read_manifest(place: Place, address: str) -> bytes:
    content = place.read(MANIFEST_NAME, largest=LARGEST_MANIFEST_BYTES)
    if len(content) > LARGEST_MANIFEST_BYTES:
        raise CorruptShardError(f"{address}/{MANIFEST_NAME} is too large to be a manifest")
    return content


def _refuse_other(ours: Manifest, theirs: Manifest, *, address: str) -> None:
    """Refuse where a source of one name has other bytes on the two sides."""
    for name in ours.sources.keys() & theirs.sources.keys():
        mine, other = ours.sources[name], theirs.sources[name]
        if any(mine.split(s).sha256 != other.split(s).sha256 for s in ("train", "validation")):
            raise UsageError(
                f"{address} holds another {name} than this folder; choose another address or folder"
            )


def _refuse_loss(held: Manifest, new: Manifest, *, places: tuple[str, str]) -> None:
    """Refuse to put `new` where `held` lies, unless it has all its stages and sources.

    `places` are where the two lie.
    """
    lost = [name for name in held.stages if name not in new.stages]
    lost += [name for name in held.sources if name not in new.sources and name not in lost]
    if lost:
        raise UsageError(
            f"{places[0]} holds {', '.join(lost)}, which {places[1]} does not, and a copy would "
            "make that unreachable; choose another address or folder, or prepare all stages in one"
        )


def _is_here(file: ShardFile | IndexFile, out: Path) -> bool:
    place = out / file.path
    if not place.is_file() or place.is_symlink() or place.stat().st_size != file.bytes:
        return False
    return sha256_of(place) == file.sha256


def _check_room(missing: list[ShardFile | IndexFile], out: Path) -> None:
    needed = sum(file.bytes for file in missing)
    with writing(out):
        free = shutil.disk_usage(out).free
    if needed > free:
        raise DiskError(
            f"{out} has {format_bytes(free)} free, the data needs {format_bytes(needed)}; free "
            "some space"
        )


def _get(place: Place, out: Path, *, file: ShardFile | IndexFile) -> None:
    """Copy one file, and publish it once its bytes are those of the manifest."""
    target = out / file.path
    temporary = target.with_name(target.name + TEMPORARY)
    size, sha256 = place.get(file.path, temporary, largest=file.bytes)
    if size != file.bytes or sha256 != file.sha256:
        temporary.unlink()
        raise CorruptShardError(
            f"{file.path} is not what its manifest says ({file.bytes:,} bytes, sha256 "
            f"{file.sha256[:12]}...; {size:,} came); try again, or upload the data anew"
        )
    publish(temporary, target)
