"""A row of a benchmark as others wrote it: every value by name and kind, or where it is wrong.

The one idea: an item that cannot be read is an error that names its place. Left out in silence, it
would change the score.
"""

from __future__ import annotations

from collections.abc import Mapping

from yxanul.data.treating.clean import has_half_characters
from yxanul.errors import CorruptDataError


class Fields:
    """An object with at least the keys that are asked for; `place` begins each error."""

    def __init__(self, value: object, place: str) -> None:
        self.place = place
        if not isinstance(value, Mapping):
            raise self.wrong("is not an object with named fields")
        self._values = value

    def wrong(self, problem: str) -> CorruptDataError:
        """Return the error that says `problem` about this row."""
        return CorruptDataError(f"{self.place} {problem}: bring the original file back.")

    def text(self, key: str) -> str:
        """Return a text that is not blank."""
        value = self.any_text(key)
        if not value.strip():
            raise self.wrong(f"has a blank {key}")
        return value

    def any_text(self, key: str) -> str:
        """Return a text, which may be blank."""
        return self._checked(self._value(key), key)

    def texts(self, key: str) -> tuple[str, ...]:
        """Return a list of at least one text, which may be blank."""
        values = self._value(key)
        if not isinstance(values, list) or not values:
            raise self.wrong(f"has no list of texts in {key}")
        return tuple(self._checked(value, f"{key}[{n}]") for n, value in enumerate(values))

    def inner(self, key: str) -> Fields:
        """Return an object inside this one."""
        return Fields(self._value(key), f"{self.place}, field {key},")

    def _value(self, key: str) -> object:
        if key not in self._values:
            held = ", ".join(map(str, self._values)) or "nothing"
            raise self.wrong(f"has no field {key}, only {held}")
        return self._values[key]

    def _checked(self, value: object, key: str) -> str:
        if not isinstance(value, str):
            raise self.wrong(f"has no text in {key}")
        if has_half_characters(value):
            raise self.wrong(f"has half a character in {key}")
        return value
