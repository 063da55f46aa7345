"""Documents from a folder of the user's own: JSON lines, plain text (also gzip), Parquet.

The one idea: files are read in the order of their names, so a place is (file, row) and means the
same document at every start. A line that cannot be read is an error that names file and line: what
to do with it is the user's choice, and all of them are told before hours are spent on the others. A
text too large to hold in memory is counted and left out.
"""

from __future__ import annotations

import gzip
import os
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, cast

from yxanul.data.bookmark import Mark
from yxanul.data.document import Document
from yxanul.data.lines import parse_line
from yxanul.data.progress import Pace, paced, unheard
from yxanul.data.sources.found import GZIP, ending_of, find_files, readable_name
from yxanul.data.strict import Fields
from yxanul.data.walk import digest_of, is_touched, refuse_all, unreadable
from yxanul.errors import (
    CorruptDataError,
    MissingExtraError,
    UsageError,
    YxanulError,
    first_line,
)
from yxanul.runfolder.durable import refuse_failing_disk

LARGEST_BYTES = 64 << 20
"""A line or a text file of more is no document; it takes about ten times as much memory."""
_MARK = ("file", "row", "dropped")
_COLUMN = "text"
_MOST_COLUMNS = 10

_Row = tuple[int, str | YxanulError | None]
"""A line or row and its text, what is wrong with it, or None: too large. A file has the number 0.
"""


def folder_version(path: Path, *, progress: Callable[[str], None] = unheard) -> str:
    """Return the number of files, their bytes and a hash of names and contents.

    `progress` and what is raised are those of `digest_of`.
    """
    files = find_files(path).files
    named = [(os.fsencode(file.relative_to(path).as_posix()), file) for file in files]
    size, digest = digest_of(named, path, progress=progress)
    return f"{len(files)} files, {size} bytes, sha256 {digest}"


def unchanged_since(
    path: Path, version: str, *, since: int, progress: Callable[[str], None] = unheard
) -> int | None:
    """Return the second when the files below `path` were read as `version`; None = they are others.

    They are hashed, from now on, only if one was touched after `since` (seconds since 1970), when
    that was true: a run looks at every start, and a folder may hold more than is read in a minute.
    `progress` is that of `folder_version`.
    """
    states = [file.stat() for file in find_files(path).files]
    if not version.startswith(f"{len(states)} files, {sum(s.st_size for s in states)} bytes, "):
        return None
    if not is_touched(states, since=since):
        return since
    now = int(time.time())
    return now if folder_version(path, progress=progress) == version else None


@dataclass(slots=True)
class _Place:
    """The file that is read, and how many of its rows are behind us."""

    file: int = 0
    row: int = 0


class FolderReader:
    """Reads the documents below a folder, from the beginning or from a mark."""

    def __init__(self, path: Path, *, name: str, dropped: Counter[str]) -> None:
        """Count in `dropped` what is left out.

        Ids are the file's name and the line (JSON lines) or row (Parquet), both counted from 1.
        """
        self._path = path
        self._name = name
        self._dropped = dropped
        self._place = _Place()

    def check(self, progress: Callable[[str], None]) -> None:
        """Read everything, and raise what `documents` would, but of all that is wrong.

        The first twenty are told one by one. `progress` is that of `folder_version`.
        """
        found, pace = self._every(), Pace(progress)
        every = paced(found, f"texts of {self._path}", pace=pace, every=1)  # one is a whole file
        refuse_all((one for one in every if isinstance(one, YxanulError)), f"texts of {self._path}")

    def documents(self) -> Iterator[Document]:
        """Read from the beginning.

        Raises CorruptDataError for bytes that cannot be read, UsageError for a missing column.
        Dropped: empty texts (`empty`), those of over 64 MiB (`too_large`), files that describe the
        data beside them (`readme`), and those of which nothing is known (`other_file`).
        """
        self._dropped.clear()
        found = find_files(self._path)
        if found.papers:
            self._dropped["readme"] = found.papers
        if found.others:
            self._dropped["other_file"] = found.others
        return self._read(_Place())

    def mark(self) -> Mark:
        """Return where the latest reading stands: after the document that it gave last."""
        place = self._place
        return {"file": place.file, "row": place.row, "dropped": dict(self._dropped)}

    def resume(self, mark: Mark) -> Iterator[Document]:
        """Read on from a mark; raises as `documents`, and CorruptShardError for a wrong mark."""
        fields = Fields(mark, f"the mark of {self._name}", keys=_MARK)
        self._dropped.clear()
        self._dropped.update(fields.counts("dropped"))
        return self._read(_Place(fields.count("file"), fields.count("row")))

    def _read(self, place: _Place) -> Iterator[Document]:
        self._place = place
        files = find_files(self._path).files
        while place.file < len(files):
            file, begin = files[place.file], place.row
            name = self._id(file)
            for number, (row, text) in enumerate(self._rows(file), start=1):
                if number <= begin:
                    continue
                if isinstance(text, YxanulError):
                    raise text
                place.row = number
                reason = "too_large" if text is None else "" if text.strip() else "empty"
                if reason or text is None:
                    self._dropped[reason] += 1
                    continue
                id = f"{name}:{row}" if row else name
                yield Document(text=text, source=self._name, id=id)
            place.file, place.row = place.file + 1, 0

    def _every(self) -> Iterator[str | YxanulError | None]:
        """Yield all texts and what is wrong with others; a file of which nothing is read is one."""
        for file in find_files(self._path).files:
            try:
                yield from (text for _, text in self._rows(file))
            except MissingExtraError:
                raise
            except (CorruptDataError, UsageError) as error:
                yield error

    def _rows(self, file: Path) -> Iterator[_Row]:
        """Yield the rows of a file; raise what is wrong with the whole of it."""
        readers: dict[str, Callable[[Path], Iterator[_Row]]] = {
            ".jsonl": _read_json_lines,
            ".parquet": _read_parquet,
        }
        try:
            ending = ending_of(file).removesuffix(GZIP)
            yield from readers.get(ending, _read_text)(file)
        except (gzip.BadGzipFile, zlib.error, EOFError) as error:
            raise CorruptDataError(
                f"{file} cannot be unpacked as gzip ({error}): replace or remove the file."
            ) from error
        except OSError as error:
            raise unreadable(file, error) from error

    def _id(self, file: Path) -> str:
        return f"{self._name}/{readable_name(file.relative_to(self._path))}"


def _read_json_lines(path: Path) -> Iterator[_Row]:
    with _open(path) as file:
        number = 0
        while line := file.readline(LARGEST_BYTES + 1):
            number += 1
            if len(line) > LARGEST_BYTES:
                while not line.endswith(b"\n") and (line := file.readline(LARGEST_BYTES)):
                    pass
                yield number, None
                continue
            if not line.strip():
                continue
            yield number, _text(_in_line, line, place=f"{path}, line {number}")


def _read_parquet(path: Path) -> Iterator[_Row]:
    try:
        import pyarrow as pa  # an optional extra, needed for this kind of file only
        import pyarrow.parquet as pq
    except ImportError as error:
        raise MissingExtraError(
            f"Reading {path} needs the package pyarrow, which is not installed: pip install "
            f'"yxanul[hub]".'
        ) from error
    try:
        # Without these a row group, which may be the whole file, is in memory at once.
        with pq.ParquetFile(path, buffer_size=1 << 20, pre_buffer=False) as file:
            names = file.schema_arrow.names
            if _COLUMN not in names:
                raise UsageError(
                    f"{path} has no column {_COLUMN!r}, only {', '.join(names)}: rename the column "
                    f"that holds the text to {_COLUMN!r}."
                )
            batches = file.iter_batches(batch_size=64, columns=[_COLUMN])
            cells = (cell for batch in batches for cell in batch.column(0))
            for number, cell in enumerate(cells, start=1):
                value = cell.value if isinstance(cell, pa.DictionaryScalar) else cell
                is_text = isinstance(value, pa.StringScalar) and value.is_valid
                # Before Python has a copy of it.
                if is_text and value.as_buffer().size > LARGEST_BYTES:
                    yield number, None
                else:
                    yield number, _text(_in_cell, value, place=f"{path}, row {number}")
    except (pa.ArrowException, OSError, ValueError) as error:  # ValueError: names not in UTF-8
        if isinstance(error, OSError):
            refuse_failing_disk(error, path)
        raise CorruptDataError(
            f"{path} cannot be read as Parquet ({first_line(error)}): replace or remove the file."
        ) from error


def _text(read: Callable[[Any, str], object], row: object, *, place: str) -> str | YxanulError:
    """Return the text that `read` finds in a row, or what is wrong with it."""
    try:
        value = read(row, place)
    except YxanulError as error:
        return error
    if not isinstance(value, str | None):
        return UsageError(
            f"{place} has no text in column {_COLUMN!r} but what Python calls "
            f"{type(value).__name__}: the text must stand there, or null."
        )
    return value or ""


def _in_line(line: bytes, place: str) -> object:
    row = parse_line(line, place)
    if not isinstance(row, dict) or _COLUMN not in row:
        raise UsageError(
            f"{place} has no text in column {_COLUMN!r}{_columns(row)}: every line must be an "
            "object with the text, or null, there; rename the column that holds the text to "
            f"{_COLUMN!r}."
        )
    return row[_COLUMN]


def _in_cell(cell: Any, place: str) -> object:
    try:
        return cell.as_py()
    except UnicodeDecodeError as error:
        raise CorruptDataError(f"{place} is not UTF-8: correct or remove the row.") from error


def _open(path: Path) -> BinaryIO:
    if ending_of(path).endswith(GZIP):
        return cast("BinaryIO", gzip.open(path, "rb"))
    return path.open("rb")


def _read_text(path: Path) -> Iterator[_Row]:
    with _open(path) as file:
        raw = file.read(LARGEST_BYTES + 1)
    if len(raw) > LARGEST_BYTES:
        yield 0, None
        return
    try:
        yield 0, raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise CorruptDataError(
            f"{path}, line {line} is not UTF-8: convert the file to UTF-8 or remove it."
        ) from error


def _columns(row: object) -> str:
    if not isinstance(row, dict) or not row:
        return ""
    names = [str(name)[:80] for name in islice(row, _MOST_COLUMNS)]
    return f" (it has {', '.join(names)}{', ...' if len(row) > len(names) else ''})"
