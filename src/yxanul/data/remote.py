"""Prepared folders on object storage, the hub, or wherever else fsspec reaches.

The one idea: the manifest is the last file to arrive on either side, so what has one is whole; and
every byte that comes back is compared with it, whatever the storage did to it. Either way goes on
where it was interrupted, by whole files. Which storages there are is fsspec's matter: `s3://` needs
the package s3fs, `gs://` gcsfs, `hf://` comes with huggingface_hub; keys come from the environment.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Protocol, cast
from urllib.parse import urlsplit

import fsspec

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
from yxanul.errors import (
    CorruptShardError,
    DiskError,
    InfrastructureError,
    MissingExtraError,
    UsageError,
)
from yxanul.runfolder.durable import BLOCK_BYTES, sha256_of, write_atomic, writing
from yxanul.units import format_bytes

Say = Callable[[str], None]


class _Storage(Protocol):
    """What is asked of fsspec."""

    def exists(self, path: str) -> bool: ...

    def size(self, path: str) -> int | None: ...

    def put_file(self, lpath: str, rpath: str) -> None: ...

    def makedirs(self, path: str, exist_ok: bool) -> None: ...

    def open(self, path: str, mode: str) -> BinaryIO: ...


def is_address(place: str) -> bool:
    """Tell an address, `s3://bucket/folder`, from a folder of this machine."""
    return "://" in place


def holds_prepared(address: str) -> bool:
    """Return whether a whole prepared folder lies at an address; raise what storage refuses."""
    with _reaching(address):
        storage, path = _storage(address)
        return storage.exists(f"{path}/{MANIFEST_NAME}")


def upload(root: Path, address: str, *, say: Say) -> None:
    """Copy the prepared folder `root` to an address, after every byte of it was verified.

    Files that lie there byte for byte are left; the manifest is written last. Raises `UsageError`
    if other data lies there or the storage refuses, `InfrastructureError` if it fails.
    """
    manifest = load_manifest(root)
    verify(manifest, root)
    content = (root / MANIFEST_NAME).read_bytes()
    with _reaching(address):
        storage, path = _storage(address)
        if storage.exists(f"{path}/{MANIFEST_NAME}"):
            theirs = parse_manifest(_read_manifest(storage, address, path=path), address)
            _refuse_other(manifest, theirs, address=address)
        files = list(manifest.files())
        for number, file in enumerate(files, start=1):
            if not _is_there(storage, f"{path}/{file.path}", file=file):
                _put(storage, root / file.path, path=f"{path}/{file.path}")
                say(f"{address}: {number} of {len(files)} files, {file.path}")
        for card in sorted((root / "cards").glob("*.*")):
            _put(storage, card, path=f"{path}/cards/{card.name}")
        _put(storage, root / MANIFEST_NAME, path=f"{path}/{MANIFEST_NAME}")
        if _read_manifest(storage, address, path=path) != content:
            raise UsageError(f"{address} gives back another manifest than it was given")
    say(f"{address} holds {len(files)} files and their manifest")


def download(address: str, out: Path, *, say: Say) -> Manifest:
    """Copy the prepared folder at an address to `out`, and compare every byte with its manifest.

    Files that are in `out` already, as the manifest says, are left. Raises `UsageError` if there is
    none or `out` holds other data, `CorruptShardError` for a file that is not as recorded, and
    `DiskError`.
    """
    with _reaching(address):
        storage, path = _storage(address)
        if not storage.exists(f"{path}/{MANIFEST_NAME}"):
            raise UsageError(f"{address} holds no {MANIFEST_NAME}, so no prepared folder")
        content = _read_manifest(storage, address, path=path)
        manifest = parse_manifest(content, f"{address}/{MANIFEST_NAME}")
        if (out / MANIFEST_NAME).is_file():
            _refuse_other(load_manifest(out), manifest, address=address)
        missing = [file for file in manifest.files() if not _is_here(file, out)]
        _check_room(missing, out)
        for number, file in enumerate(missing, start=1):
            _get(storage, f"{path}/{file.path}", file=file, place=out / file.path)
            say(f"{address}: {number} of {len(missing)} files, {file.path}")
    write_atomic(out / MANIFEST_NAME, content.decode())
    return load_manifest(out)


@contextmanager
def _reaching(address: str) -> Iterator[None]:
    """Say in one sentence what a storage refuses."""
    try:
        yield
    except ImportError as error:
        raise MissingExtraError(f"{address} needs another package: {error}") from error
    except _refusals() as error:
        name = type(error).__name__
        told = f"{address} cannot be reached or used ({name}: {str(error)[:200]}); "
        wrong = isinstance(error, (FileNotFoundError, PermissionError, ValueError))
        if wrong or "Credentials" in name:
            raise UsageError(f"{told}check the address and the keys in the environment") from error
        raise InfrastructureError(f"{told}the same command goes on where this one ended") from error


def _refusals() -> tuple[type[Exception], ...]:
    """Return what storages raise: some know errors of their own, once they are loaded."""
    own = (
        ("botocore.exceptions", "BotoCoreError"),
        ("gcsfs.retry", "HttpError"),
        ("google.auth.exceptions", "GoogleAuthError"),
    )
    loaded = [getattr(sys.modules[module], name) for module, name in own if module in sys.modules]
    return (OSError, ValueError, *loaded)


def _storage(address: str) -> tuple[_Storage, str]:
    if urlsplit(address).password is not None:
        # Addresses are told, and written into run folders.
        raise UsageError("an address may not hold a password; give it in the environment")
    storage, path = fsspec.core.url_to_fs(address.rstrip("/"))
    return cast("_Storage", storage), path


def _read_manifest(storage: _Storage, address: str, *, path: str) -> bytes:
    with storage.open(f"{path}/{MANIFEST_NAME}", "rb") as file:
        content = file.read(LARGEST_MANIFEST_BYTES + 1)
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


def _is_there(storage: _Storage, path: str, *, file: ShardFile | IndexFile) -> bool:
    if not storage.exists(path) or storage.size(path) != file.bytes:
        return False
    # Of an upload that was interrupted, or of other data: only its bytes can tell.
    digest = hashlib.sha256()
    with storage.open(path, "rb") as source:
        while block := source.read(BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest() == file.sha256


def _put(storage: _Storage, local: Path, *, path: str) -> None:
    storage.makedirs(path.rpartition("/")[0], exist_ok=True)
    storage.put_file(str(local), path)


def _is_here(file: ShardFile | IndexFile, out: Path) -> bool:
    place = out / file.path
    if not place.is_file() or place.is_symlink() or place.stat().st_size != file.bytes:
        return False
    return sha256_of(place) == file.sha256


def _check_room(missing: list[ShardFile | IndexFile], out: Path) -> None:
    needed = sum(file.bytes for file in missing)
    with writing(out):
        out.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(out).free
    if needed > free:
        raise DiskError(
            f"{out} has {format_bytes(free)} free, the data needs {format_bytes(needed)}; free "
            "some space"
        )


def _get(storage: _Storage, path: str, *, file: ShardFile | IndexFile, place: Path) -> None:
    """Copy one file, and publish it once its bytes are those of the manifest."""
    temporary = place.with_name(place.name + TEMPORARY)
    digest, size = hashlib.sha256(), 0
    with writing(place):
        place.parent.mkdir(parents=True, exist_ok=True)
        target = temporary.open("wb")
    with target, storage.open(path, "rb") as source:
        while block := source.read(BLOCK_BYTES):
            digest.update(block)
            size += len(block)
            if size > file.bytes:
                break
            with writing(place):
                target.write(block)
        with writing(place):
            target.flush()
            os.fsync(target.fileno())
    if size != file.bytes or digest.hexdigest() != file.sha256:
        temporary.unlink()
        raise CorruptShardError(
            f"{path} is not what its manifest says ({file.bytes:,} bytes, sha256 "
            f"{file.sha256[:12]}...; {size:,} came); try again, or upload the data anew"
        )
    publish(temporary, place)
