"""Prepared folders on object storage, the hub, or wherever else fsspec reaches.

The one idea: the manifest is the last file to arrive on either side, so what has one is whole; and
every byte that comes back is compared with it, whatever the storage did to it. Either way goes on
where it was interrupted, by whole files.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path

from yxanul.config.schema import StageConfig
from yxanul.data.files import TEMPORARY, read_blocks
from yxanul.data.places.replacing import names_of, refuse_other_bytes
from yxanul.data.prepared.manifest import (
    LARGEST_MANIFEST_BYTES,
    MANIFEST_NAME,
    IndexFile,
    Manifest,
    ShardFile,
    load_manifest,
    manifest_text,
    parse_manifest,
    write_manifest,
)
from yxanul.data.prepared.verify import verify
from yxanul.data.prepared.workspace import holding
from yxanul.data.progress import BytesRead
from yxanul.errors import (
    CorruptShardError,
    DiskError,
    UsageError,
)
from yxanul.runfolder.durable import publish, writing
from yxanul.runfolder.storage import Place, is_address, reaching
from yxanul.units import format_bytes

Say = Callable[[str], None]
PreparedFile = ShardFile | IndexFile


def holds_prepared(address: str) -> bool:
    """Return whether a whole prepared folder lies at an address; raise what storage refuses."""
    with reaching(address):
        return Place(address).exists(MANIFEST_NAME)


def remote_manifest(address: str) -> Manifest | None:
    """Return the manifest of the whole prepared folder at an address; None = there is none.

    Raises what storage refuses, and `CorruptShardError` for a damaged manifest.
    """
    with reaching(address):
        return _manifest_at(Place(address), address)


def try_upload(address: str, stages: Sequence[StageConfig], *, out: Path, say: Say) -> None:
    """Refuse an address that would not take what `out` is to hold: `stages`, and what it holds now.

    A small object goes there, comes back and is deleted; one that may not be deleted is told to
    `say`. Raises `UsageError` for what is neither an address nor a folder that is there, where the
    storage refuses, or where other or more data lies, as far as that shows before ours is prepared;
    `InfrastructureError` if the storage fails.
    """
    if not is_address(address) and not Path(address).is_dir():
        raise UsageError(
            f"--upload {address} is neither an address, such as s3://bucket/folder, nor a "
            "folder that is there"
        )
    with reaching(address):
        place = Place(address)
        place.try_out(left=say)
        theirs = _manifest_at(place, address)
    if theirs is None:
        return
    refuse_other_bytes(theirs, stages, address=address)
    # What comes from an address brings all that lies there, whatever stage is asked for.
    if not any(is_address(stage.data.source) for stage in stages):
        held = _names(load_manifest(out)) if (out / MANIFEST_NAME).is_file() else {}
        _refuse_loss(_names(theirs), {*held, *names_of(stages)}, places=(address, str(out)))


def upload(root: Path, address: str, *, say: Say) -> None:
    """Copy the prepared folder `root` to an address, after every byte of it was verified.

    Files that lie there byte for byte are left; the manifest is written last. `say` gets a line for
    every file, and about every two seconds while files are compared; it may raise to stop the work.
    Raises `UsageError` if other or more data lies there or the storage refuses,
    `InfrastructureError` if it fails.
    """
    manifest = load_manifest(root)
    verify(manifest, root, progress=say)
    # Not read again: another process may add stages here meanwhile, whose files are not sent.
    content = manifest_text(manifest).encode()
    with reaching(address):
        place = Place(address)
        theirs = _manifest_at(place, address)
    if theirs is not None:
        _refuse_other(manifest, theirs, address=address)
        # Their manifest is replaced, and what ours does not name would be out of reach.
        _refuse_loss(_names(theirs), _names(manifest), places=(address, str(root)))
    files = list(manifest.files())
    with reaching(address):
        found = [file for file in files if place.size(file.path) == file.bytes]
    # Of an upload that was interrupted, or of other data: only its bytes can tell.
    blocks = partial(_blocks_there, place, address=address)
    alike = _alike(found, blocks, where=address, say=say)
    for number, file in enumerate(files, start=1):
        if file not in alike:
            with reaching(address):
                place.put(root / file.path, file.path)
            say(f"{address}: {number} of {len(files)} files, {file.path}")
    cards = sorted((root / "cards").glob("*.*"))
    with reaching(address):
        for card in cards:
            place.put(card, f"cards/{card.name}")
        place.put_bytes(content, MANIFEST_NAME)
        if _read_manifest(place, address) != content:
            raise UsageError(f"{address} gives back another manifest than it was given")
    say(f"{address} holds {len(files)} files and their manifest")


def download(address: str, out: Path, *, say: Say) -> Manifest:
    """Copy the prepared folder at an address to `out`, and compare every byte with its manifest.

    Files that are in `out` already, as the manifest says, are left. `say` is that of `upload`.
    Raises `UsageError` if there is none, `out` holds other or more data, or another process is at
    work there, `CorruptShardError` for a file that is not as recorded, and `DiskError`.
    """
    with reaching(address):
        place = Place(address)
        manifest = _manifest_at(place, address)
    if manifest is None:
        raise UsageError(f"{address} holds no {MANIFEST_NAME}, so no prepared folder")
    held = load_manifest(out) if (out / MANIFEST_NAME).is_file() else None
    if held is not None:
        _refuse_other(held, manifest, address=address)
        _refuse_loss(_names(held), _names(manifest), places=(str(out), address))
    with holding(out, held=held):
        found = [file for file in manifest.files() if _may_be_here(file, out)]
        alike = _alike(found, lambda file: read_blocks(out / file.path), where=str(out), say=say)
        missing = [file for file in manifest.files() if file not in alike]
        _check_room(missing, out)
        for number, file in enumerate(missing, start=1):
            _get(place, file, address=address, out=out)
            say(f"{address}: {number} of {len(missing)} files, {file.path}")
        write_manifest(manifest, out)
    return load_manifest(out)


def _manifest_at(place: Place, address: str) -> Manifest | None:
    """Return the manifest that lies at an address; None: none does."""
    if not place.exists(MANIFEST_NAME):
        return None
    content = _read_manifest(place, address)
    return parse_manifest(content, f"{address}/{MANIFEST_NAME}")


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


def _names(manifest: Manifest) -> dict[str, None]:
    """Return the names of its stages and sources, each once."""
    return dict.fromkeys((*manifest.stages, *manifest.sources))


def _refuse_loss(held: Iterable[str], new: Container[str], *, places: tuple[str, str]) -> None:
    """Refuse to put stages and sources `new` where `held` lie, unless all of those are among them.

    `places` are where the two lie.
    """
    if lost := [name for name in held if name not in new]:
        raise UsageError(
            f"{places[0]} holds {', '.join(lost)}, which {places[1]} does not, and a copy would "
            "make that unreachable; choose another address or folder, or prepare all stages in one"
        )


def _may_be_here(file: PreparedFile, out: Path) -> bool:
    place = out / file.path
    return place.is_file() and not place.is_symlink() and place.stat().st_size == file.bytes


def _blocks_there(place: Place, file: PreparedFile, *, address: str) -> Iterator[bytes]:
    """Yield a file's bytes; an error of whoever takes them is none of the address."""
    with reaching(address):
        yield from place.blocks(file.path)


def _alike(
    files: Sequence[PreparedFile],
    blocks: Callable[[PreparedFile], Iterator[bytes]],
    *,
    where: str,
    say: Say,
) -> set[PreparedFile]:
    """Return those of `files` whose bytes, as `blocks` gives them, are those of the manifest."""
    total = sum(file.bytes for file in files)
    read = BytesRead(say, f"{where}: comparing what is there already", total=total)
    alike = set()
    for file in files:
        digest = hashlib.sha256()
        for block in blocks(file):
            digest.update(block)
            read.add(len(block))
        if digest.hexdigest() == file.sha256:
            alike.add(file)
    return alike


def _check_room(missing: Sequence[PreparedFile], out: Path) -> None:
    needed = sum(file.bytes for file in missing)
    with writing(out):
        free = shutil.disk_usage(out).free
    if needed > free:
        raise DiskError(
            f"{out} has {format_bytes(free)} free, the data needs {format_bytes(needed)}; free "
            "some space"
        )


def _get(place: Place, file: PreparedFile, *, address: str, out: Path) -> None:
    """Copy one file, and publish it once its bytes are those of the manifest."""
    target = out / file.path
    temporary = target.with_name(target.name + TEMPORARY)
    with reaching(address):
        size, sha256 = place.get(file.path, temporary, largest=file.bytes)
    with writing(target):
        if size != file.bytes or sha256 != file.sha256:
            temporary.unlink()
            raise CorruptShardError(
                f"{file.path} is not what its manifest says ({file.bytes:,} bytes, sha256 "
                f"{file.sha256[:12]}...; {size:,} came); try again, or upload the data anew"
            )
        publish(temporary, target)
