"""Real text for measurements of preparing: what is installed, as JSON lines.

The standard library with its tests, the Python sources and the documentation of installed packages,
lead paragraphs of Wikipedia, and problems of gsm_symbolic until the size is reached.
"""

from __future__ import annotations

import json
import sysconfig
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import chain, zip_longest
from pathlib import Path

from yxanul.data.sources.mathematics import read_gsm_symbolic
from yxanul.data.sources.wikipedia import read_documents

_FILE_BYTES = 10_000_000
_ENDINGS = {".py", ".md", ".rst", ".txt"}
_MOST_PACKAGES_BYTES = 90_000_000
_PROBLEMS = 900_000


def write_corpus(folder: Path, *, megabytes: int) -> tuple[int, int]:
    """Write files of about 10 MB with the columns id and text; return (documents, bytes of text).

    The kinds of text are mixed, so that each part of the corpus is like the whole.
    """
    folder.mkdir(parents=True)
    documents, size, number, written = 0, 0, 0, 0
    handle = (folder / f"{number:03d}.jsonl").open("w")
    for name, text in _mixed():
        if size >= megabytes * 1_000_000:
            break
        if written >= _FILE_BYTES:
            handle.close()
            number, written = number + 1, 0
            handle = (folder / f"{number:03d}.jsonl").open("w")
        handle.write(json.dumps({"id": name, "text": text}) + "\n")
        length = len(text.encode())
        documents, size, written = documents + 1, size + length, written + length
    handle.close()
    return documents, size


def _mixed() -> Iterator[tuple[str, str]]:
    """Yield (name, text): a file, then as much of the other kinds as keeps the shares."""
    files = chain(files_below(Path(sysconfig.get_path("stdlib"))), _packages())
    leads = ((one.id, one.text) for one in read_documents(dropped=Counter()))
    problems = (
        (one.id, one.text) for one in read_gsm_symbolic(seed=1, count=_PROBLEMS, dropped=Counter())
    )
    for row in zip_longest(files, _grouped(leads, 1), _grouped(problems, 22)):
        for part in row:
            if part is not None:
                yield from part if isinstance(part, list) else [part]


def _grouped(items: Iterable[tuple[str, str]], size: int) -> Iterator[list[tuple[str, str]]]:
    group: list[tuple[str, str]] = []
    for item in items:
        group.append(item)
        if len(group) == size:
            yield group
            group = []


def _packages() -> Iterator[tuple[str, str]]:
    size = 0
    for name, text in files_below(Path(sysconfig.get_path("purelib"))):
        size += len(text)
        if size > _MOST_PACKAGES_BYTES:
            return
        yield name, text


def files_below(folder: Path) -> Iterator[tuple[str, str]]:
    """Yield (name, text) of the sources and documentation below a folder that are UTF-8."""
    for path in sorted(folder.rglob("*")):
        is_other = "site-packages" in path.parts and "site-packages" not in folder.parts
        if path.suffix not in _ENDINGS or is_other or not path.is_file():
            continue
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue  # tests of the standard library that are in other encodings on purpose
        if text.strip():
            yield str(path.relative_to(folder)), text
