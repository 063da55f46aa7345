"""Where documentation lies: a folder, a git checkout, or an installed package."""

from __future__ import annotations

import configparser
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from yxanul.data.sources.snippets.pages import LLMS_NAMES, READERS
from yxanul.errors import UsageError

PACKAGE = "package:"
_OUTSIDE = {"tests", "test", "node_modules", "__pycache__", "site-packages", "_vendor", "build"}
_LARGEST_BYTES = 8 << 20


@dataclass(frozen=True)
class Origin:
    """Documentation files and what they are part of.

    `files` are (name, path), sorted by name; `version` names a commit, a release, or a hash of the
    contents; `address` + a file's name is where a reader finds it, None = nowhere.
    """

    files: tuple[tuple[str, Path], ...]
    version: str
    address: str | None
    licence: str | None


def open_origin(place: str) -> Origin:
    """Return what `place` names: a folder or `package:NAME`.

    Raises UsageError if there is no such thing or no documentation in it.
    """
    found = _package(place) if place.startswith(PACKAGE) else _folder(Path(place))
    if not found.files:
        endings = ", ".join((*READERS, *LLMS_NAMES))
        raise UsageError(f"{place} holds no documentation: files that end in {endings}.")
    return found


def _package(place: str) -> Origin:
    name = place.removeprefix(PACKAGE)
    try:
        package = distribution(name)
    except PackageNotFoundError as error:
        raise UsageError(
            f"The package {name} is not installed: pip install {name}, or take its documentation "
            "out of the stage."
        ) from error
    named = ((file.as_posix(), Path(str(file.locate()))) for file in package.files or ())
    data = package.metadata.json
    licence = data.get("license_expression") or data.get("license")
    return Origin(
        files=tuple(sorted((n, p) for n, p in named if _is_documentation(n, p))),
        version=f"{name} {package.version}",
        address=None,
        licence=str(licence) if licence else None,
    )


def _folder(folder: Path) -> Origin:
    if not folder.is_dir():
        raise UsageError(f"The folder of documentation {folder} does not exist.")
    named = ((path.relative_to(folder).as_posix(), path) for path in folder.rglob("*"))
    files = tuple(sorted((n, p) for n, p in named if _is_documentation(n, p)))
    commit = _commit(folder)
    if commit is None:
        return Origin(files, _hash_of(files), None, None)
    remote = _remote(folder)
    return Origin(files, f"{remote or folder.name}@{commit}", _web(remote, commit), None)


def _is_documentation(name: str, path: Path) -> bool:
    parts = name.split("/")
    if any(part.startswith(".") or part in _OUTSIDE for part in parts[:-1]):
        return False
    is_kind = path.suffix.lower() in READERS or parts[-1] in LLMS_NAMES
    return is_kind and path.is_file() and path.stat().st_size <= _LARGEST_BYTES


def _hash_of(files: tuple[tuple[str, Path], ...]) -> str:
    digest = hashlib.sha256()
    for name, path in files:
        digest.update(f"{name}\0{path.stat().st_size}\0".encode() + path.read_bytes())
    return f"{len(files)} files, sha256 {digest.hexdigest()[:16]}"


def _commit(folder: Path) -> str | None:
    """Return the commit that is checked out, read from git's own files; None = no checkout."""
    head = folder / ".git" / "HEAD"
    if not head.is_file():
        return None
    content = head.read_text().strip()
    if not content.startswith("ref: "):
        return content
    name = content.removeprefix("ref: ")
    loose = folder / ".git" / name
    if loose.is_file():
        return loose.read_text().strip()
    return next((line.split()[0] for line in _packed(folder) if line.endswith(f" {name}")), None)


def _packed(folder: Path) -> Iterator[str]:
    packed = folder / ".git" / "packed-refs"
    if packed.is_file():
        yield from packed.read_text().splitlines()


def _remote(folder: Path) -> str | None:
    config = configparser.ConfigParser(strict=False, interpolation=None)
    try:
        config.read(folder / ".git" / "config")
    except configparser.Error:
        return None  # git's files may hold what configparser does not know; the commit is enough
    return config.get('remote "origin"', "url", fallback=None)


def _web(remote: str | None, commit: str) -> str | None:
    """Return the address of a checkout's files, for hosts that show them at /blob/."""
    if remote is None or not remote.startswith("https://"):
        return None
    return f"{remote.removesuffix('.git').rstrip('/')}/blob/{commit}/"
