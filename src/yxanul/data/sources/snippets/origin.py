"""Where documentation lies: a folder, a git checkout, or an installed package."""

from __future__ import annotations

import configparser
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from yxanul.data.progress import unheard
from yxanul.data.sources.found import readable_name
from yxanul.data.sources.snippets.pages import LLMS_NAMES, READERS
from yxanul.data.walk import digest_of, is_file, is_touched, unreadable, walk_files
from yxanul.errors import CorruptDataError, UsageError

PACKAGE = "package:"
_CREDENTIALS = re.compile(r"^(\w+://)[^/@]*@")
_OUTSIDE = {"tests", "test", "node_modules", "__pycache__", "site-packages", "_vendor", "build"}


@dataclass(frozen=True)
class Origin:
    """Documentation files and what they are part of.

    `files` are (name, path), sorted by name; `version` names a commit, a release, or a hash of the
    contents; `prefix` + a file's name is what a page says of where it is from, and an address where
    a reader finds it if it begins with https://. It changes with a release or commit, but not with
    the contents of another file.
    """

    files: tuple[tuple[str, Path], ...]
    version: str
    prefix: str
    licence: str | None


def open_origin(place: str, *, progress: Callable[[str], None] = unheard) -> Origin:
    """Return what `place` names: a folder or `package:NAME`.

    `progress` gets a line now and then while files are hashed, and may raise. Raises UsageError if
    there is no such thing or no documentation in it, CorruptDataError for a file that may not be
    read.
    """
    found = (
        _package(place) if place.startswith(PACKAGE) else _folder(Path(place), progress=progress)
    )
    if not found.files:
        endings = ", ".join((*READERS, *LLMS_NAMES))
        raise UsageError(f"{place} holds no documentation: files that end in {endings}.")
    return found


def version_since(
    folder: Path, version: str, *, since: int, progress: Callable[[str], None]
) -> int | None:
    """Return the second when a folder's documentation was `version`, its commit included.

    None = it is another. The files are read, from now on, only if one was touched after `since`
    (seconds since 1970), when that was true. `progress` is that of `open_origin`. Raises
    CorruptDataError for a file or folder that may not be read.
    """
    files = _files_in(folder)
    if not version.startswith(f"{_before_hash(_checkout(folder))}{len(files)} files, "):
        return None
    if not is_touched((path.stat() for _, path in files), since=since):
        return since
    now = int(time.time())
    return now if _folder(folder, progress=progress).version == version else None


def _package(place: str) -> Origin:
    name = place.removeprefix(PACKAGE)
    if not name.strip():
        raise UsageError(f"documentation: {place} names no package; write {PACKAGE}NAME.")
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
        prefix=f"{name} {package.version}: ",
        licence=str(licence) if licence else None,
    )


def _folder(folder: Path, *, progress: Callable[[str], None]) -> Origin:
    if not folder.is_dir():
        raise UsageError(f"The folder of documentation {folder} does not exist.")
    files, checkout = _files_in(folder), _checkout(folder)
    named = [(name.encode(), path) for name, path in files]
    _, digest = digest_of(named, folder, progress=progress)
    return Origin(
        files,
        # What lies there may differ from the commit.
        version=f"{_before_hash(checkout)}{len(files)} files, sha256 {digest}",
        prefix=_web(checkout) or f"{checkout or _name_of(folder)}: ",
        licence=None,
    )


def _files_in(folder: Path) -> tuple[tuple[str, Path], ...]:
    named = (
        (readable_name(path.relative_to(folder)), path)
        for path in walk_files(folder, skips=_is_outside)
    )
    return tuple(sorted((n, p) for n, p in named if _is_documentation(n, p)))


def _checkout(folder: Path) -> str:
    """Return where a git checkout is from and its commit, with an @ between; "" = no checkout."""
    commit = _commit(folder)
    return "" if commit is None else f"{_remote(folder) or _name_of(folder)}@{commit}"


def _before_hash(checkout: str) -> str:
    return f"{checkout}, " if checkout else ""


def _name_of(folder: Path) -> str:
    return readable_name(Path(folder.resolve().name))


def _is_documentation(name: str, path: Path) -> bool:
    parts = name.split("/")
    if any(map(_is_outside, parts[:-1])):
        return False
    is_kind = path.suffix.lower() in READERS or parts[-1] in LLMS_NAMES
    return is_kind and is_file(path)


def _is_outside(folder: str) -> bool:
    return folder.startswith(".") or folder in _OUTSIDE


def _commit(folder: Path) -> str | None:
    """Return the commit that is checked out, read from git's own files; None = no checkout."""
    content = _git_file(folder, "HEAD")
    if content is None or not content.startswith("ref: "):
        return content
    name = content.removeprefix("ref: ")
    if (loose := _git_file(folder, name)) is not None:
        return loose
    packed = (_git_file(folder, "packed-refs") or "").splitlines()
    return next((line.split()[0] for line in packed if line.endswith(f" {name}")), None)


def _git_file(folder: Path, name: str) -> str | None:
    """Return what a file of git's holds; None = there is none."""
    path = folder / ".git" / name
    try:
        return path.read_text(encoding="utf-8").strip() if path.is_file() else None
    except OSError as error:
        raise unreadable(path, error) from error
    except UnicodeDecodeError as error:
        raise CorruptDataError(
            f"{path} is no text, so what is checked out in {folder} is not known: mend the checkout"
        ) from error


def _remote(folder: Path) -> str | None:
    config = configparser.ConfigParser(strict=False, interpolation=None)
    try:
        config.read(folder / ".git" / "config")
    except (configparser.Error, UnicodeDecodeError):
        return None  # git's files may hold what configparser does not know; the commit is enough
    url = config.get('remote "origin"', "url", fallback=None)
    # A password or token in the address must not come into manifests and cards.
    return None if url is None else _CREDENTIALS.sub(r"\1", url)


def _web(checkout: str) -> str | None:
    """Return the address of a checkout's files, for hosts that show them at /blob/."""
    remote, _, commit = checkout.rpartition("@")
    if not remote.startswith("https://"):
        return None
    return f"{remote.removesuffix('.git').rstrip('/')}/blob/{commit}/"
