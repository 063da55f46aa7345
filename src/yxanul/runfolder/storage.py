"""Object storage, the hub, or wherever else fsspec reaches, with errors in one sentence.

Which storages there are is fsspec's matter: `s3://` needs the package s3fs, `gs://` gcsfs, `hf://`
comes with huggingface_hub; keys come from the environment.
"""

from __future__ import annotations

import hashlib
import os
import sys
import tempfile
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Literal, Protocol, cast, overload
from urllib.parse import urlsplit

from yxanul.errors import CorruptDataError, InfrastructureError, MissingExtraError, UsageError
from yxanul.runfolder.durable import BLOCK_BYTES, reading, writing

_TRIAL_BYTES = 1024
# Of an address or a key; only a person can mend them.
_WRONG = (FileNotFoundError, NotADirectoryError, PermissionError, ValueError)
_NOT_LET_IN = (401, 403)
_KEYS = ("Credential", "Authentication")
"""Words in the names of errors that a wrong or absent key raises."""


class _Storage(Protocol):
    """What is asked of fsspec."""

    def info(self, path: str) -> Mapping[str, Any]: ...

    def put_file(self, lpath: str, rpath: str) -> None: ...

    def makedirs(self, path: str, exist_ok: bool) -> None: ...

    def open(self, path: str, mode: str) -> BinaryIO: ...

    def find(self, path: str, *, detail: Literal[True]) -> dict[str, Mapping[str, Any]]: ...

    @overload
    def ls(self, path: str, detail: Literal[True]) -> list[Mapping[str, Any]]: ...

    @overload
    def ls(self, path: str, detail: Literal[False]) -> list[str]: ...

    def rm(self, path: str, recursive: bool) -> None: ...


class Place:
    """A folder at an address; paths are relative to it, with `/`.

    What the storage raises goes through: calls stand in a `reaching` block.
    """

    def __init__(self, address: str) -> None:
        """Find the storage; raises what `reaching` turns into sentences."""
        # Here alone: it takes half a second to load.
        import fsspec
        from fsspec.implementations.local import LocalFileSystem

        if urlsplit(address).password is not None:
            # Addresses are told, and written into run folders.
            raise UsageError("an address may not hold a password; give it in the environment")
        storage, root = fsspec.core.url_to_fs(address.rstrip("/"))
        # fsspec keeps one storage per address and thread, which remembers sizes for ever: a file
        # that has grown since would be read to its old end.
        storage.invalidate_cache()
        self._address = address
        # Those of networks (s3fs, gcsfs) list all at once, by a method that the object itself has.
        is_inherited = type(storage).find is fsspec.AbstractFileSystem.find
        self._is_plain = is_inherited and not storage.async_impl
        self._storage, self._root = cast("_Storage", storage), root
        self.folder = Path(root).resolve() if isinstance(storage, LocalFileSystem) else None
        """The folder on this machine, links resolved; None: it is elsewhere."""

    def exists(self, path: str) -> bool:
        """Tell whether there is a file of that name."""
        return self._about(path) is not None

    def names(self) -> list[str]:
        """Return the paths of all files in it."""
        return list(self.sizes())

    def sizes(self) -> dict[str, int]:
        """Return {path: bytes} of all files in it, asked for at once."""
        root, storage = self._root, self._storage
        try:
            storage.info(root)  # `find` says nothing where there is no folder
        except FileNotFoundError:
            return {}
        listed = self._walk(root) if self._is_plain else storage.find(root, detail=True).values()
        inside = root.strip("/") + "/"
        return {
            about["name"].lstrip("/").removeprefix(inside): about["size"]
            for about in sorted(listed, key=lambda about: str(about["name"]))
        }

    def top_names(self) -> list[str]:
        """Return the names of what lies in it directly, files and folders."""
        try:
            listed = self._storage.ls(self._root, detail=False)
        except FileNotFoundError:
            return []
        return [name.rstrip("/").rpartition("/")[2] for name in listed]

    def put(self, local: Path, path: str) -> None:
        """Copy a file there; one of that name is replaced.

        A file that is not here, or on a disk that fails, is an `InfrastructureError`, one that may
        not be read a `CorruptDataError`; neither is a fault of the address.
        """
        target = f"{self._root}/{path}"
        try:
            self._storage.makedirs(target.rpartition("/")[0], exist_ok=True)
            self._storage.put_file(str(local), target)
        except _refusals():
            _refuse_unreadable(local)
            raise

    def put_bytes(self, content: bytes, path: str) -> None:
        """Write bytes there, as `put` does a file."""
        with tempfile.TemporaryDirectory() as scratch:
            local = Path(scratch) / "content"
            with writing(local):
                local.write_bytes(content)
            self.put(local, path)

    def read(self, path: str, *, largest: int) -> bytes:
        """Return a file's bytes, `largest` + 1 of them if it is larger."""
        with self._storage.open(f"{self._root}/{path}", "rb") as file:
            return file.read(largest + 1)

    def size(self, path: str) -> int | None:
        """Return the bytes of a file; None = there is none of that name."""
        about = self._about(path) or {"size": None}
        size: int | None = about["size"]
        return size

    def blocks(self, path: str) -> Iterator[bytes]:
        """Yield the content of a file in blocks."""
        with self._storage.open(f"{self._root}/{path}", "rb") as source:
            while block := source.read(BLOCK_BYTES):
                yield block

    def holds(self, path: str, *, size: int, sha256: str) -> bool:
        """Tell whether a file is there byte for byte; all of it is read."""
        if self.size(path) != size:
            return False
        digest = hashlib.sha256()
        for block in self.blocks(path):
            digest.update(block)
        return digest.hexdigest() == sha256

    def get(self, path: str, local: Path, *, largest: int) -> tuple[int, str]:
        """Copy a file here and sync it; return its size and sha256, cut off after `largest`."""
        digest, size = hashlib.sha256(), 0
        with writing(local):
            local.parent.mkdir(parents=True, exist_ok=True)
            target = local.open("wb")
        with target, self._storage.open(f"{self._root}/{path}", "rb") as source:
            while size <= largest and (block := source.read(BLOCK_BYTES)):
                digest.update(block)
                size += len(block)
                with writing(local):
                    target.write(block)
            with writing(local):
                target.flush()
                os.fsync(target.fileno())
        return size, digest.hexdigest()

    def remove(self, path: str) -> None:
        """Delete a file or a folder, if it is there."""
        if self.exists(path):
            self._storage.rm(f"{self._root}/{path}", recursive=True)

    def try_out(self, *, left: Callable[[str], None] | None = None) -> None:
        """Write a small object, read it back and delete it.

        Other bytes that come back are an `InfrastructureError`. `left` is told, and nothing raised,
        where the object cannot be deleted.
        """
        name, content = f"trial-{uuid.uuid4().hex}", os.urandom(_TRIAL_BYTES)
        self.put_bytes(content, name)
        try:
            back = self.read(name, largest=_TRIAL_BYTES)
        finally:
            try:
                self.remove(name)
            except _refusals() as error:
                if left is None:
                    raise
                left(
                    f"{self._address}/{name}, with which the address was tried out, cannot be "
                    f"deleted ({type(error).__name__}) and stays there"
                )
        if back != content:
            raise InfrastructureError(f"{self._address} gives back other bytes than it was given")

    def _walk(self, folder: str) -> Iterator[Mapping[str, Any]]:
        """Yield what the storage knows of all files in a folder.

        fsspec's own `find` takes a folder that cannot be read now for an empty one.
        """
        try:
            listed = self._storage.ls(folder, detail=True)
        except FileNotFoundError:  # deleted while this looks
            return
        for about in listed:
            if about["type"] == "directory":
                yield from self._walk(about["name"])
            else:
                yield about

    def _about(self, path: str) -> Mapping[str, Any] | None:
        """Return what the storage knows of a file; None = there is none.

        fsspec's `exists` says no as well where the storage did not answer.
        """
        try:
            return self._storage.info(f"{self._root}/{path}")
        except FileNotFoundError:
            return None


def _refuse_unreadable(local: Path) -> None:
    """Raise what keeps a file of this machine from being read, if anything does.

    Its first byte is asked for: all of a checkpoint would take long beside a storage that is away.
    """
    try:
        with reading(local), local.open("rb") as file:
            file.read(1)
    except FileNotFoundError as error:
        raise InfrastructureError(f"{local} was gone before it could be copied") from error
    except OSError as error:
        raise CorruptDataError(
            f"{local} cannot be read ({error.strerror or error}), so it is not copied: give this "
            "user the right to read it"
        ) from error


def is_address(place: str) -> bool:
    """Tell an address, `s3://bucket/folder`, from a folder of this machine."""
    return "://" in place


@contextmanager
def reaching(address: str) -> Iterator[None]:
    """Say in one sentence what a storage refuses.

    A wrong address or key is a `UsageError`, what may pass an `InfrastructureError`.
    """
    try:
        yield
    except ImportError as error:
        raise MissingExtraError(f"{address} needs another package: {error}") from error
    except _refusals() as error:
        name = type(error).__name__
        why = " ".join(str(error).split())[:200]  # the hub's words go over several lines
        told = f"{address} cannot be reached or used ({name}: {why}); "
        is_key = any(word in name for word in _KEYS)
        if isinstance(error, _WRONG) or is_key or _status(error) in _NOT_LET_IN:
            raise UsageError(f"{told}check the address and the keys in the environment") from error
        raise InfrastructureError(f"{told}the same command goes on where this one ended") from error


def _refusals() -> tuple[type[Exception], ...]:
    """Return what storages raise: some know errors of their own, once they are loaded."""
    own = (
        ("aiohttp", "ClientError"),
        ("azure.core.exceptions", "AzureError"),
        ("botocore.exceptions", "BotoCoreError"),
        ("gcsfs.retry", "HttpError"),
        ("google.auth.exceptions", "GoogleAuthError"),
        ("httpx", "RequestError"),
        ("httpx2", "RequestError"),
        ("paramiko.ssh_exception", "SSHException"),
    )
    loaded = [getattr(sys.modules[module], name) for module, name in own if module in sys.modules]
    # The hub's library wraps what an upload met into one without a class of its own.
    unnamed = [RuntimeError] if "huggingface_hub" in sys.modules else []
    return (OSError, ValueError, *loaded, *unnamed)


def _status(error: Exception) -> int | None:
    """Return the status of the answer that a library's error carries, if it is of one."""
    status = getattr(getattr(error, "response", None), "status_code", None)
    return status if isinstance(status, int) else None
