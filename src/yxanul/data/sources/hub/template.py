"""A row of a data set as text: the source's `text_template` over the row's columns.

The one idea: the template is taken apart once. A column that the set does not have is the recipe's
mistake; a value that a single row lacks (null, a list too short, not a text) is that row's, and
it is dropped with the reason.
"""

from __future__ import annotations

import string
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from yxanul.config.schema import SourceConfig
from yxanul.errors import ConfigError

_FORMATTER = string.Formatter()
# A list is never text: printing one would train on Python's brackets.
_PRINTABLE = (str, int, float)


class UnfitRow(Exception):  # noqa: N818
    """A row gives no text; the message is the reason that is counted."""


@dataclass(frozen=True, slots=True)
class _Part:
    literal: str
    field: str | None
    spec: str


class Template:
    """The `text_template` of a source, ready to be filled."""

    def __init__(self, config: SourceConfig) -> None:
        """Take it apart; raise ConfigError if it is no format string."""
        text = config.text_template if config.text_template is not None else "{text}"
        self._where = f"Source {config.name}: text_template {text!r}"
        self._hub_id = config.hub_id
        try:
            self._parts = [
                _Part(literal, field, spec or "")
                for literal, field, spec, _ in _FORMATTER.parse(text)
            ]
        except ValueError as error:
            raise ConfigError(f"{self._where} is no format string ({error}).") from error
        self._columns = {_column_of(part.field) for part in self._parts if part.field is not None}

    def check(self, columns: Mapping[str, Any]) -> None:
        """Raise ConfigError unless the set has every column that the template names."""
        if absent := sorted(self._columns - columns.keys()):
            raise ConfigError(
                f"{self._where} does not fit the data set {self._hub_id}: it has no column "
                f"{', '.join(absent)}, only {', '.join(columns)}."
            )

    def misfit(self, reason: str) -> ConfigError:
        """Return the error for a template that no row so far has fitted."""
        return ConfigError(f"{self._where} fits no row of the data set {self._hub_id} ({reason}).")

    def fill(self, row: Mapping[str, Any]) -> str:
        """Return the text of a row, stripped of white space at its ends; raise UnfitRow.

        A column that holds a chat (a list of {role, content}) is written as "User: ..." and
        "Assistant: ..." paragraphs by "{messages}", or turn by turn by "{messages[0][content]}".
        """
        self.check(row)
        return "".join(
            part.literal + ("" if part.field is None else _value(part.field, part.spec, row=row))
            for part in self._parts
        ).strip()


def _value(field: str, spec: str, *, row: Mapping[str, Any]) -> str:
    column = _column_of(field)
    if row[column] is None:
        raise UnfitRow(f"{column} is null")
    try:
        value, _ = _FORMATTER.get_field(field, (), row)
    except (LookupError, TypeError, AttributeError, ValueError) as error:
        raise UnfitRow(f"{column} has no {field.removeprefix(column)}") from error
    if value is None:
        raise UnfitRow(f"{field} is null")
    if isinstance(value, list):
        return _chat(value, field)
    if not isinstance(value, _PRINTABLE):
        raise UnfitRow(f"{field} is not text")
    try:
        return format(value, spec)
    except ValueError as error:
        raise UnfitRow(f"{field} is not written as {spec!r}") from error


def _chat(turns: list[Any], field: str) -> str:
    """Return a list of {role, content} as paragraphs."""
    paragraphs = []
    for turn in turns:
        said = turn if isinstance(turn, dict) else {}
        role, content = said.get("role"), said.get("content")
        if not isinstance(role, str) or not isinstance(content, str):
            raise UnfitRow(f"{field} is not a chat")
        paragraphs.append(f"{role.capitalize()}: {content}")
    return "\n\n".join(paragraphs)


def _column_of(field: str) -> str:
    return field.partition("[")[0].partition(".")[0]
