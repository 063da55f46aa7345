"""Changes to valid bytes that a fuzzer tries: damage, and values of another kind."""

import json
from collections.abc import Callable
from random import Random
from typing import Any

import yaml

# Values that a parser hands on and that trip whoever expects another kind, as they stand in JSON.
ODD = (
    *("null", "true", "-1", "1.5", "1e999", "-Infinity", "NaN", "1" + "0" * 400, '""', '"x"'),
    *('"\\ud800"', '"\\u0000"', "[]", "{}", "[[]]", '{"a": []}', "[" * 400 + "]" * 400),
    *('"step-00000008-a7"', f'"step-{"9" * 5000}-a0"', "9223372036854775807", "[null, 1]"),
)
# The same for YAML, where a tag may promise what the value is not.
ODD_YAML = ("!!bool x", "!!float ''", "!!timestamp x", "!!binary é", "!!set {a}", "&a [*a]", "1e5")
ODD_KEYS = ("\ud800", "", "../x", "a.b")
_MARK = "the odd value stands here"
# The last four: PyYAML and values that do not fit their tags, which were put there before.
_UNREADABLE = (
    *(ValueError, RecursionError, yaml.YAMLError),
    *(KeyError, IndexError, AttributeError, TypeError),
)


def damaged(content: bytes, random: Random) -> bytes:
    """Flip a bit, cut a piece out, put one in, or double one, up to four times."""
    changed = bytearray(content)
    for _ in range(random.randint(1, 4)):
        begin = random.randint(0, len(changed))
        end = random.randint(begin, len(changed))
        how = random.choice(("flip", "cut", "insert", "double"))
        if how == "flip" and begin < len(changed):
            changed[begin] ^= 1 << random.randint(0, 7)
        elif how == "cut":
            del changed[begin:end]
        elif how == "insert":
            changed[begin:begin] = bytes(random.randint(0, 255) for _ in range(4))
        else:
            changed[end:end] = changed[begin:end]
    return bytes(changed)


def with_odd_value(content: bytes, random: Random) -> bytes:
    """Put an odd value or key in a place of JSON, JSON lines or YAML; other bytes are damaged."""
    for parse, odd in ((_json, ODD), (_json_lines, ODD), (_yaml, ODD + ODD_YAML)):
        try:
            rows = parse(content)
            number = random.randrange(len(rows))
            rows[number] = _marked(rows[number], random)
            text = "\n".join(json.dumps(row, default=str) for row in rows)
        except _UNREADABLE:
            continue
        ends = "\n" if parse is _json_lines else ""
        return f"{text}{ends}".replace(json.dumps(_MARK), random.choice(odd)).encode()
    return damaged(content, random)


def _marked(value: Any, random: Random) -> Any:
    """Return the value with the mark in the place of one of its parts, or of itself."""
    whole = {"top": value}
    *path, last = random.choice(_places(whole))
    place: Any = whole
    for key in path:
        place = place[key]
    if isinstance(place, dict) and path and random.random() < 0.3:
        del place[last]
        last = random.choice(ODD_KEYS)
    place[last] = _MARK
    return whole["top"]


def _json(content: bytes) -> list[Any]:
    return [json.loads(content)]


def _json_lines(content: bytes) -> list[Any]:
    return [json.loads(line) for line in content.splitlines() if line]


def _yaml(content: bytes) -> list[Any]:
    found = yaml.safe_load(content)
    return [found] if isinstance(found, dict) else []


def _places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [path] if path else []
    inner: Any = ()
    if isinstance(value, dict | list):
        inner = value.items() if isinstance(value, dict) else enumerate(value)
    return found + [place for key, item in inner for place in _places(item, (*path, key))]


Change = Callable[[bytes, Random], bytes]
CHANGES: tuple[Change, ...] = (damaged, with_odd_value, with_odd_value)
