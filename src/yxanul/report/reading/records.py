"""Rows and JSON files of a run folder, read one value at a time, each with its address.

The one idea: a value is asked for by its kind. What is absent or null is None, which older runs may
have; what is of another kind is a `CorruptDataError` that names file, line and key.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from yxanul.errors import CorruptDataError
from yxanul.report.reading.traced import Traced, source_of
from yxanul.runfolder.rows import read_rows

Key = str | int


@dataclass(frozen=True)
class Record:
    """A row of a .jsonl file (`line` from 1) or a whole JSON or YAML file (`line` None)."""

    path: Path
    file: str
    """The path within the run folder, as sources name it."""
    values: Any
    line: int | None = None

    def find(self, *keys: Key) -> Any:
        """Return the plain value at a path of keys; None when a part of the path is absent."""
        value = self.values
        for key in keys:
            if isinstance(value, list) and isinstance(key, int) and key < len(value):
                value = value[key]
            elif isinstance(value, dict):
                value = value.get(key)
            else:
                return None
        return value

    def number(self, *keys: Key) -> Traced | None:
        """Return a number with its address; None when it is absent or null."""
        value = self.plain_number(*keys)
        return None if value is None else Traced(value, (self.source(*keys),))

    def plain_number(self, *keys: Key) -> float | None:
        """Return a number alone, for columns of many rows; None when it is absent or null."""
        value: float | None = self.find(*keys)
        if value is None:
            return None
        if not _is_number(value):
            raise self.wrong("a number", *keys)
        return value

    def text(self, *keys: Key) -> Traced | None:
        """Return a text; None when it is absent or null."""
        value = self.find(*keys)
        if value is None:
            return None
        if not isinstance(value, str):
            raise self.wrong("a text", *keys)
        return Traced(value, (self.source(*keys),))

    def items(self, *keys: Key) -> list[Any]:
        """Return a list, empty when it is absent or null."""
        value = self.find(*keys)
        if value is not None and not isinstance(value, list):
            raise self.wrong("a list", *keys)
        return value or []

    def table(self, *keys: Key) -> dict[str, Any]:
        """Return a map, empty when it is absent or null."""
        value = self.find(*keys)
        if value is not None and not isinstance(value, dict):
            raise self.wrong("an object", *keys)
        return value or {}

    def need_count(self, *keys: Key) -> int:
        """Return a whole number that every version of the program writes."""
        value = self.find(*keys)
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            raise self.wrong("a whole number, 0 or more", *keys)
        return value

    def need_text(self, *keys: Key) -> str:
        """Return a text that every version of the program writes."""
        value = self.find(*keys)
        if not isinstance(value, str):
            raise self.wrong("a text", *keys)
        return value

    def need_numbers(self, *keys: Key) -> None:
        """Refuse a list, where there is one, that holds anything but finite numbers."""
        for value in self.items(*keys):
            if not _is_number(value):
                raise self.wrong("a list of numbers", *keys)

    def source(self, *keys: Key) -> str:
        """Return the address of the value at a path of keys."""
        return source_of(self.file, *keys, line=self.line)

    def wrong(self, kind: str, *keys: Key) -> CorruptDataError:
        """Return the error that says what should stand at a path of keys."""
        place = f"{self.path}, line {self.line}" if self.line else str(self.path)
        name = "/".join(map(str, keys)) or "the content"
        return CorruptDataError(
            f"{place}: {name} is missing or not {kind}; the file is damaged. "
            "Bring a good copy back, or delete that line"
            if self.line
            else f"{place}: {name} is missing or not {kind}; bring a good copy back, or delete it"
        )


def _is_number(value: Any) -> bool:
    is_real = isinstance(value, int | float) and not isinstance(value, bool)
    return is_real and math.isfinite(value)


def read_records(path: Path) -> tuple[Record, ...]:
    """Return the whole rows of a file with their lines; a missing file has none."""
    rows = enumerate(read_rows(path), start=1)
    return tuple(Record(path, path.name, row, line) for line, row in rows)


def read_record(path: Path, file: str | None = None) -> Record | None:
    """Return a JSON file whose top level is an object; None when there is no such file."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (ValueError, RecursionError):
        values = None
    record = Record(path, file or path.name, values)
    if not isinstance(values, dict):
        raise record.wrong("a JSON object")
    return record


def read_scores(folder: Path) -> Iterator[Record]:
    """Yield the score files in the order of step, attempt and domain; each is one record."""
    for path in sorted(folder.glob("step-*.json")):
        record = read_record(path, f"{folder.name}/{path.name}")
        if record is not None:
            record.need_count("step"), record.need_count("attempt")
            record.need_text("domain")
            if record.number("bpb") is None:
                raise record.wrong("a number", "bpb")
            for key in ("nats", "tokens"):
                record.need_numbers(key)
            yield record
