"""YAML text to plain values and back, with the line of every key.

The one idea: a small, unsurprising YAML. `1e-3` is a number, `off` is a word, `010` is ten, a key
written twice is an error, anchors do not exist. It knows nothing of what the keys mean.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from yxanul.errors import ConfigError, first_line

KeyPath = tuple[str | int, ...]

# YAML 1.2's core schema, plus underscores between digits. PyYAML's own rules (YAML 1.1) read 1e-3
# as a word, `off` as false and 12:30 as 750.
_PLAIN = (
    ("tag:yaml.org,2002:null", r"^(?:~|null|Null|NULL|)$", ["~", "n", "N", ""]),
    ("tag:yaml.org,2002:bool", r"^(?:true|True|TRUE|false|False|FALSE)$", list("tTfF")),
    ("tag:yaml.org,2002:int", r"^[-+]?[0-9][0-9_]*$", list("-+0123456789")),
    (
        "tag:yaml.org,2002:float",
        r"^(?:[-+]?(?:\.[0-9][0-9_]*|[0-9][0-9_]*(?:\.[0-9_]*)?)(?:[eE][-+]?[0-9]+)?"
        r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$",
        list("-+0123456789."),
    ),
)


@dataclass(frozen=True)
class Document:
    """A parsed YAML text: its label for messages, its values, the line (from 1) of every key."""

    label: str
    data: dict[str, Any]
    lines: Mapping[KeyPath, int] = field(default_factory=dict)
    overridden: Mapping[KeyPath, str] = field(default_factory=dict)

    def where(self, path: KeyPath) -> str:
        """Return "file:line: key.path", or the `--set` that wrote the key."""
        for length in range(len(path), 0, -1):
            if path[:length] in self.overridden:
                return f"--set {self.overridden[path[:length]]}"
        known = (path[:n] for n in range(len(path), 0, -1) if path[:n] in self.lines)
        line = self.lines.get(next(known, ()), 0) if path else 0
        place = f"{self.label}:{line}" if line else self.label
        inside = [text for key, text in self.overridden.items() if key[: len(path)] == path]
        changed = f" (with --set {' --set '.join(dict.fromkeys(inside))})" if inside else ""
        return f"{place}: {dotted(path)}{changed}" if path else f"{place}{changed}"


def dotted(path: KeyPath) -> str:
    """Return a key path as the user writes it: `training.seq_len_curriculum.0.seq_len`."""
    return ".".join(str(part) for part in path)


class _Loader(yaml.SafeLoader):
    """SafeLoader with YAML 1.2's plain words and without anchors."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise yaml.MarkedYAMLError(problem="aliases (*name) are not allowed", problem_mark=mark)
        node: yaml.Node | None = super().compose_node(parent, index)
        return node


class _Dumper(yaml.SafeDumper):
    """SafeDumper that quotes whatever _Loader would read as something other than text."""

    def ignore_aliases(self, data: Any) -> bool:
        return True

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)


_Loader.yaml_implicit_resolvers = {}  # not those of YAML 1.1 that the parents carry
_Dumper.yaml_implicit_resolvers = {}
for _tag, _pattern, _first in _PLAIN:
    for _class in (_Loader, _Dumper):
        _class.add_implicit_resolver(_tag, re.compile(_pattern), _first)


def _construct_int(loader: _Loader, node: yaml.ScalarNode) -> int:
    return int(str(loader.construct_scalar(node)).replace("_", ""))


_Loader.add_constructor("tag:yaml.org,2002:int", _construct_int)


def _represent_text(dumper: _Dumper, text: str) -> yaml.ScalarNode:
    # Unless they are escaped, the reader folds these line breaks of Unicode into others.
    style = '"' if any(mark in text for mark in "\x85\u2028\u2029") else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _represent_text)


def parse_document(text: str, label: str) -> Document:
    """Parse a YAML text whose top level is a block of keys.

    Raises ConfigError naming the label and the line: broken syntax, a key written twice, a key that
    is not a word, an anchor, an empty text, another top level.
    """
    lines: dict[KeyPath, int] = {}
    value = _parse(text, label, lines=lines)
    if value is None:
        raise ConfigError(f"{label}: the file is empty; it needs keys")
    if not isinstance(value, dict):
        raise ConfigError(f"{label}: the top level is not a block of `key: value` lines")
    return Document(label=label, data=value, lines=lines)


def parse_value(text: str, label: str) -> Any:
    """Parse one value, as after `--set key=`. Raises ConfigError naming the label."""
    return _parse(text, label, lines=None)


def quoted(text: str) -> str:
    """Return a text as a value in quotation marks, in one line, which `parse_value` reads back.

    JSON would write what lies beyond 16 bits as two halves, which are no characters of YAML.
    """
    line: str = yaml.safe_dump(text, default_style='"', allow_unicode=True, width=sys.maxsize)
    return line.rstrip("\n")


def read_document(path: Path) -> Document:
    """Read and parse one file. Raises ConfigError when it is missing, not UTF-8 or not YAML."""
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 text ({error.reason}); save it as UTF-8") from error
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror})") from error
    return parse_document(text, str(path))


def dump(value: Any) -> str:
    """Return YAML text that `parse_document` reads back as the same value; key order is kept."""
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)


def _parse(text: str, label: str, *, lines: dict[KeyPath, int] | None) -> Any:
    """Parse a file, noting lines, or with None a single value, which has none."""
    try:
        loader = _Loader(text)
        try:
            node = loader.get_single_node()
            noted = {} if lines is None else lines
            return None if node is None else _build(loader, node, path=(), lines=noted)
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"{label}:{mark.line + 1}" if mark and lines is not None else label
        reason = " ".join(part for part in (error.context, error.problem) if part)
        what = "the value" if lines is None else "this line"
        raise ConfigError(f"{place}: broken YAML: {reason}; correct {what}") from error
    except yaml.YAMLError as error:
        what = "the value" if lines is None else "the file"
        told = f"{label}: broken YAML: {first_line(error)}; correct {what}"
        raise ConfigError(told) from error
    except RecursionError as error:
        raise ConfigError(f"{label}: nested too deeply; flatten it") from error


def _build(loader: _Loader, node: yaml.Node, *, path: KeyPath, lines: dict[KeyPath, int]) -> Any:
    """Turn a YAML node into plain values, noting lines and refusing keys written twice."""
    lines[path] = node.start_mark.line + 1
    if isinstance(node, yaml.SequenceNode):
        return [
            _build(loader, item, path=(*path, i), lines=lines) for i, item in enumerate(node.value)
        ]
    if not isinstance(node, yaml.MappingNode):
        try:
            return loader.construct_object(node)
        except ValueError as error:
            raise yaml.MarkedYAMLError(
                problem=f"unreadable number ({error})", problem_mark=node.start_mark
            ) from error
        except (KeyError, IndexError, AttributeError, TypeError) as error:
            # What PyYAML does with a value that does not fit its tag, as in `!!bool often`.
            raise yaml.MarkedYAMLError(
                problem=f"{node.value[:40]!r} does not fit its tag", problem_mark=node.start_mark
            ) from error
    block: dict[str, Any] = {}
    for key_node, value_node in node.value:
        mark = key_node.start_mark
        if not isinstance(key_node, yaml.ScalarNode) or not key_node.value:
            raise yaml.MarkedYAMLError(problem="a key must be a word", problem_mark=mark)
        key = key_node.value
        place = (*path, key)
        if key in block:
            first = lines[place]
            problem = f"key {dotted(place)} is written twice (first in line {first})"
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=mark)
        block[key] = _build(loader, value_node, path=place, lines=lines)
        lines[place] = mark.line + 1
    return block
