"""Files inside installed packages, found without importing the package.

Some packages carry useful text beside code under another licence; only their data files are opened.
"""

import hashlib
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, distribution, version
from pathlib import Path

from yxanul.data.document import Document
from yxanul.errors import CorruptDataError, MissingExtraError


def missing_extra(package: str, licence: str) -> MissingExtraError:
    """Return the error that says which package is missing, its text's licence and the remedy."""
    return MissingExtraError(
        f"The embedded data needs the package {package} (text: {licence}), which is not installed: "
        f'pip install "yxanul[embedded]", or name other data with --data.'
    )


def package_path(package: str, relative: str, *, licence: str) -> Path:
    """Return the path of `relative` inside an installed package.

    Raises MissingExtraError when the package or the file is absent.
    """
    try:
        path = Path(str(distribution(package).locate_file(relative)))
    except PackageNotFoundError as error:
        raise missing_extra(package, licence) from error
    if not path.exists():
        raise missing_extra(package, licence)
    return path


def package_version(package: str, *, licence: str) -> str:
    """Return `package version`; raises MissingExtraError when it is not installed."""
    try:
        return f"{package} {version(package)}"
    except PackageNotFoundError as error:
        raise missing_extra(package, licence) from error


def check_sha256(path: Path, expected: str) -> None:
    """Raise CorruptDataError unless the file's sha256 is the one of the version we know."""
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != expected:
        raise CorruptDataError(
            f"{path.name} of the installed package is not the file this program knows (sha256 "
            f"{found[:12]}..., expected {expected[:12]}...): reinstall the package in the version "
            f'of "yxanul[embedded]".'
        )


def in_hash_order(documents: Iterable[Document], *, seed: int) -> list[Document]:
    """Return the documents in an order that depends on seed and id only.

    So the first N are a fair sample of the whole, and neighbours in the token stream are unrelated.
    """
    return sorted(
        documents,
        key=lambda document: hashlib.sha256(f"{seed}/{document.id}".encode()).digest(),
    )
