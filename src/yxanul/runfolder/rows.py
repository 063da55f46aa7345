"""Append-only files of JSON rows: metrics, gates, lineage.

A row is one line, written in one call. A process that dies may leave half a line at the end:
readers drop it, and the next writer cuts it off. Everywhere else a broken line is an error.
"""

import json
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from yxanul.errors import CorruptDataError
from yxanul.failpoints import failpoint
from yxanul.runfolder.durable import write_atomic, writing

Row = dict[str, Any]


def append_row(path: Path, row: Row, *, durable: bool = False) -> None:
    """Add one row; with `durable`, return only when it is on the disk.

    NaN and infinity become null, which every reader of JSON understands.
    """
    line = json.dumps(finite(row), ensure_ascii=False, allow_nan=False) + "\n"
    with writing(path), path.open("a+b") as file:
        failpoint(f"rows.{path.stem}")
        _cut_half_line(file)
        file.write(line.encode("utf-8", errors="backslashreplace"))
        if durable:
            file.flush()
            os.fsync(file.fileno())


def read_rows(path: Path) -> list[Row]:
    """Return all whole rows; a missing file has none, a half-written last line is left out."""
    return [row for _, row in _lines(path)]


def read_placed_rows(path: Path) -> list[Row]:
    """Return all whole rows of a file in which each says its step and attempt, as in metrics.jsonl.

    One without these two whole numbers is a `CorruptDataError`.
    """
    rows = read_rows(path)
    refuse_unplaced(rows, path=path)
    return rows


def refuse_unplaced(rows: Sequence[Row], *, path: Path, first: int = 1) -> None:
    """Raise for a row without step and attempt; `first` is the line of the first one."""
    for number, row in enumerate(rows, start=first):
        for key in ("step", "attempt"):
            if not isinstance(row.get(key), int):
                raise CorruptDataError(
                    f"{path}, line {number}: {key} is missing or no whole number; "
                    "bring a good copy back, or delete that line"
                )


def cut_rows(path: Path, keep: Callable[[Row], bool]) -> int:
    """Rewrite the file with the rows that `keep` accepts; return how many were cut off."""
    if not path.exists():
        return 0
    lines = list(_lines(path))
    kept = [line for line, row in lines if keep(row)]
    write_atomic(path, "".join(f"{line}\n" for line in kept))
    return len(lines) - len(kept)


def finite(value: Any) -> Any:
    """Return plain values with null for every NaN and infinity, which JSON does not know."""
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return None
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return value


def parse_rows(text: str, *, path: Path, first: int = 1) -> list[Row]:
    """Return the rows of whole lines, the last one's line feed left out.

    A damaged line is a `CorruptDataError` that names it: `first` is the number of the first one.
    """
    return [row for _, row in _parsed(text.split("\n"), path=path, first=first)]


def _lines(path: Path) -> Iterator[tuple[str, Row]]:
    if not path.exists():
        return
    # What follows the last line feed is nothing, or half a row.
    lines = path.read_text(encoding="utf-8", errors="replace").split("\n")[:-1]
    yield from _parsed(lines, path=path, first=1)


def _parsed(lines: list[str], *, path: Path, first: int) -> Iterator[tuple[str, Row]]:
    for number, line in enumerate(lines, start=first):
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            row = None
        if not isinstance(row, dict):
            raise CorruptDataError(
                f"{path}, line {number} is not a JSON object; the file is damaged. "
                "Bring a good copy back, or delete that line"
            )
        yield line, row


def _cut_half_line(file: BinaryIO) -> None:
    """Truncate the file after its last line feed: a row must not be glued to half another."""
    if file.seek(0, os.SEEK_END) == 0:
        return
    file.seek(-1, os.SEEK_END)
    if file.read(1) != b"\n":
        file.seek(0)
        file.truncate(file.read().rfind(b"\n") + 1)
