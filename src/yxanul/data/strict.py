"""Read JSON that somebody else may have written, and never trip over it.

The one idea: every value is asked for by key and kind, and whatever is missing, unknown or of
another kind is a `CorruptShardError` that names the file and the key. No other error leaves here.
"""

from __future__ import annotations

import dataclasses
import json
import re
import sys
from collections.abc import Callable, Iterable
from functools import cache
from typing import Any, TypeVar

from yxanul.errors import CorruptShardError

PREPARE_AGAIN = "delete the prepared folder and prepare the data again"
"""The way on from damage: `prepare` leaves what its manifest names as it is."""
Sha256 = str
"""How a record annotates a field of 64 hexadecimal digits."""
_Record = TypeVar("_Record")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_LARGEST_COUNT = 2**63 - 1


def parse_json(content: bytes, where: str, *, way_on: str = PREPARE_AGAIN) -> object:
    """Return the value in `content`; the error names the file, `where`, and the `way_on`."""
    try:
        value: object = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise CorruptShardError(
            f"{where} is not valid JSON ({str(error)[:80]}); {way_on}."
        ) from error
    return value


class Fields:
    """A JSON object with exactly the keys `keys`; each method returns one value of its kind.

    `way_on` is what an error tells the user to do.
    """

    def __init__(
        self, value: object, where: str, *, keys: Iterable[str], way_on: str = PREPARE_AGAIN
    ) -> None:
        self._where = where
        self._way_on = way_on
        if not isinstance(value, dict):
            raise self.wrong("an object is expected here")
        wanted = frozenset(keys)
        if value.keys() != wanted:
            for key in sorted(wanted - value.keys()):
                raise self.wrong(f"the key {key} is missing")
            for key in sorted(value.keys() - wanted):
                raise self.wrong(f"the key {key[:80]!r} is unknown")
        self._values: dict[str, object] = value

    def wrong(self, problem: str) -> CorruptShardError:
        """Return the error that says `problem` about this object."""
        return CorruptShardError(f"{self._where}: {problem}; {self._way_on}.")

    def record(self, kind: type[_Record], **known: object) -> _Record:
        """Return the dataclass whose fields stand here, each read by its annotation, or `known`."""
        readers = _readers(kind)  # type: ignore[arg-type]  # mypy takes no class for hashable
        read = {name: read(self, name) for name, read in readers if name not in known}
        return kind(**read, **known)

    def has(self, key: str) -> bool:
        """Return whether a value is there, not null."""
        return self._values[key] is not None

    def text(self, key: str) -> str:
        """Return a string."""
        value = self._values[key]
        if not isinstance(value, str):
            raise self.wrong(f"{key} must be a string")
        return value

    def optional_text(self, key: str) -> str | None:
        """Return a string or None."""
        return None if self._values[key] is None else self.text(key)

    def sha256(self, key: str) -> str:
        """Return 64 hexadecimal digits."""
        value = self.text(key)
        if not _SHA256.fullmatch(value):
            raise self.wrong(f"{key} must be 64 hexadecimal digits")
        return value

    def count(self, key: str) -> int:
        """Return a whole number from 0 to 2**63 - 1."""
        value = self._values[key]
        if type(value) is not int or not 0 <= value <= _LARGEST_COUNT:
            raise self.wrong(f"{key} must be a whole number, 0 or more")
        return value

    def table(self, key: str) -> dict[str, object]:
        """Return an object whose keys are free."""
        value = self._values[key]
        if not isinstance(value, dict):
            raise self.wrong(f"{key} must be an object")
        return value

    def items(self, key: str) -> list[object]:
        """Return a list."""
        value = self._values[key]
        if not isinstance(value, list):
            raise self.wrong(f"{key} must be a list")
        return value

    def texts(self, key: str) -> dict[str, str]:
        """Return an object of strings."""
        table = self.table(key)
        inner = Fields(table, f"{self._where}: {key}", keys=table, way_on=self._way_on)
        return {name: inner.text(name) for name in table}

    def number(self, key: str) -> float | None:
        """Return a finite number or None."""
        value = self._values[key]
        if value is None:
            return None
        # Not math.isfinite: JSON may hold a whole number that no float can.
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not is_number or not abs(value) <= sys.float_info.max:  # type: ignore[arg-type]
            raise self.wrong(f"{key} must be a number")
        return float(value)  # type: ignore[arg-type]

    def flag(self, key: str) -> bool:
        """Return true or false."""
        value = self._values[key]
        if not isinstance(value, bool):
            raise self.wrong(f"{key} must be true or false")
        return value

    def counts(self, key: str) -> dict[str, int]:
        """Return an object of whole numbers."""
        table = self.table(key)
        inner = Fields(table, f"{self._where}: {key}", keys=table, way_on=self._way_on)
        return {name: inner.count(name) for name in table}


_READERS: dict[object, Callable[[Fields, str], object]] = {
    "str": Fields.text,
    "str | None": Fields.optional_text,
    "Sha256": Fields.sha256,
    "int": Fields.count,
    "float | None": Fields.number,
    "dict[str, object]": Fields.table,
    "dict[str, str]": Fields.texts,
    "dict[str, int]": Fields.counts,
}


@cache
def names(kind: type[Any]) -> frozenset[str]:
    """Return the keys of a record: the names of the dataclass's fields."""
    return frozenset(field.name for field in dataclasses.fields(kind))


@cache
def _readers(kind: type[Any]) -> tuple[tuple[str, Any], ...]:
    return tuple((field.name, _READERS.get(field.type)) for field in dataclasses.fields(kind))
