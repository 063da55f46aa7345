"""The source of Python's standard library, file by file, as it stands on this machine.

Left out: tests, other people's packages, and files that are tables rather than programs.
"""

import sys
import sysconfig
import tokenize
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from yxanul.data.document import Document

NAME = "stdlib_code"
DOMAIN = "code"
LICENCE = "PSF-2.0"
ATTRIBUTION = "Python Software Foundation"
OUTSIDE = {"site-packages", "dist-packages", "test", "tests", "idle_test", "__pycache__"}
# Written by programs: the help topics (api_pages has them as text) and the build's settings.
GENERATED = ("pydoc_data/topics.py", "_sysconfigdata")
# Code points and byte escapes per line; tables have 0.9 or more, programs less than 0.5
# (Python 3.11: character maps of encodings/, stringprep, html.entities, re._casefix).
TABLE_ESCAPES = 0.8
MIN_CHARACTERS = 100


def library_version() -> str:
    """Return the version that the text depends on."""
    return f"Python {sys.version.split()[0]}"


def library_files() -> list[tuple[str, Path]]:
    """Return (name relative to the library, path) of the library's own modules, sorted by name."""
    root = Path(sysconfig.get_path("stdlib"))
    named = ((path.relative_to(root).as_posix(), path) for path in root.rglob("*.py"))
    return sorted((name, path) for name, path in named if not OUTSIDE & set(name.split("/")))


def read_documents(*, dropped: Counter[str]) -> Iterator[Document]:
    """Yield one document per source file, ordered by name, with trailing white space removed."""
    for name, path in library_files():
        text = read_source(path)
        reason = _unfit(name, text)
        if text is None or reason:
            dropped[reason] += 1
            continue
        yield Document(text=text, source=NAME, id=f"{NAME}/{name}")


def read_source(path: Path) -> str | None:
    """Return a module's text in the encoding that it declares; None when it does not decode."""
    try:
        with tokenize.open(path) as file:
            lines = file.read().split("\n")
    except (UnicodeDecodeError, SyntaxError):  # SyntaxError: an unknown encoding is declared
        return None
    return "\n".join(line.rstrip() for line in lines).strip("\n") + "\n"


def _unfit(name: str, text: str | None) -> str:
    """Return why a file is not taken, or an empty string."""
    if text is None:
        return "not decodable"
    if any(part in name for part in GENERATED):
        return "generated"
    if len(text) < MIN_CHARACTERS:
        return "too short"
    escapes = sum(text.count(mark) for mark in ("0x", "\\x", "\\u"))
    return "table" if escapes >= TABLE_ESCAPES * text.count("\n") else ""
