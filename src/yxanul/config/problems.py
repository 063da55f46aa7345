"""What is wrong with a configuration, said in one plain sentence per problem.

The one idea: pydantic finds the problems, this file says where, what and what to do, with the
nearest valid key. It reads no file.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError

from yxanul.config.yamltext import Document, KeyPath, dotted
from yxanul.errors import ConfigError

Checked = TypeVar("Checked", bound=BaseModel)

_WANTED = {
    "int_type": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "string_type": "text",
    "model_type": "a block of keys",
    "model_attributes_type": "a block of keys",
    "dict_type": "a block of keys",
    "tuple_type": "a list",
}
_BOUNDS = {
    "greater_than": ("gt", "greater than"),
    "greater_than_equal": ("ge", "at least"),
    "less_than": ("lt", "less than"),
    "less_than_equal": ("le", "at most"),
}


def check(kind: type[Checked], document: Document) -> tuple[Checked | None, list[str]]:
    """Return the document as `kind`, or None and one sentence per problem."""
    try:
        return kind.model_validate(document.data), []
    except ValidationError as error:
        return None, [
            line for one in error.errors() for line in _sentences(kind, document, error=one)
        ]


def raise_problems(problems: Sequence[str]) -> None:
    """Raise ConfigError if there are problems: one as itself, several as a list, a line each."""
    problems = list(dict.fromkeys(problems))  # one --set may reach every stage
    if len(problems) == 1:
        raise ConfigError(problems[0])
    if problems:
        listed = "\n".join(f"  - {problem}" for problem in problems)
        raise ConfigError(f"{len(problems)} problems in the configuration:\n{listed}")


def nearest(word: str, choices: Sequence[str]) -> str:
    """Return "did you mean X?", or the list of choices when none is near."""
    near = difflib.get_close_matches(word, choices, n=1, cutoff=0.6)
    if near:
        return f"did you mean {near[0]}?"
    return f"choose from: {', '.join(choices)}"


def nearest_of_all(word: str, choices: Sequence[str], *, kind: str) -> str:
    """Return what `nearest` does, and in any case all choices, once; `kind` is their plural."""
    hint = nearest(word, choices)
    listed = ", ".join(choices)
    return hint if hint.endswith(listed) else f"{hint} ({kind}: {listed})"


def key_paths(kind: type[BaseModel], prefix: KeyPath = ()) -> Iterator[tuple[KeyPath, Any]]:
    """Yield (key path, pydantic field) of every field, blocks before what they hold.

    Entries of a list have "N" in place of their number.
    """
    for name, info in kind.model_fields.items():
        path = (*prefix, name)
        yield path, info
        inner = block_of(info.annotation)
        if inner is not None:
            yield from key_paths(inner, path if inner is info.annotation else (*path, "N"))


def block_of(annotation: Any) -> type[BaseModel] | None:
    """Return the block's class of a field that is a block or a list of blocks, else None."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for part in get_args(annotation) if (found := block_of(part))), None)


def _sentences(kind: type[BaseModel], document: Document, *, error: Any) -> list[str]:
    path: KeyPath = tuple(error["loc"])
    if error["type"] == "value_error":
        return [
            f"{document.where(path)}: {text}" for text in str(error["ctx"]["error"]).split("\n")
        ]
    return [f"{document.where(path)}: {_reason(kind, path, error=error)}"]


def _reason(kind: type[BaseModel], path: KeyPath, *, error: Any) -> str:
    sort, value, context = error["type"], error["input"], error.get("ctx", {})
    if sort == "missing":
        return f"the key {dotted(path)} is missing; add it"
    if sort == "extra_forbidden":
        return _unknown_key(kind, path)
    if sort == "literal_error":
        return _not_a_choice(value, context["expected"])
    if sort in _BOUNDS:
        limit, words = _BOUNDS[sort]
        return f"is {_show(value)}; it must be {words} {_show(context[limit])}"
    if sort == "finite_number":
        return f"is {_show(value)}; it must be a finite number"
    if sort == "too_short":
        return "is empty; it needs at least one entry"
    if sort == "string_too_short":
        return "is empty text; write a word"
    if sort == "string_pattern_mismatch":
        return f"is {_show(value)}; only a-z, 0-9, _ and - are allowed, a letter or digit first"
    if sort in ("int_type", "float_type") and str(value).lower().lstrip("+-") in ("nan", "inf"):
        return f"is {_show(value)}; write a finite number"
    if sort in _WANTED:
        extra = ""
        if sort == "int_type" and isinstance(value, float) and value.is_integer():
            extra = f"; write {int(value)}"
        return f"is {_show(value)}; it must be {_WANTED[sort]}{extra}"
    return f"is {_show(value)}; {error['msg'][:1].lower()}{error['msg'][1:]}"


def _unknown_key(kind: type[BaseModel], path: KeyPath) -> str:
    """Name the nearest key of the same block, or the block where this very key belongs."""
    block: type[BaseModel] = kind
    for part in path[:-1]:
        if isinstance(part, str) and part in block.model_fields:
            block = block_of(block.model_fields[part].annotation) or block
    word = str(path[-1])
    near = difflib.get_close_matches(word, list(block.model_fields), n=1, cutoff=0.75)
    elsewhere = [dotted(known) for known, _ in key_paths(kind) if known[-1] == word]
    if not near and elsewhere:
        return f"unknown key {word} here; it belongs at {elsewhere[0]}"
    return f"unknown key {word}; {nearest(word, list(block.model_fields))}"


def _not_a_choice(value: Any, expected: str) -> str:
    """Say what a choice may be. `expected` is pydantic's list, like "'a', 'b' or 'c'"."""
    choices = expected.replace("'", "").replace("True", "true").replace("False", "false")
    if " or " not in choices:
        return f"is {_show(value)}; only {choices} is possible in this version"
    return f"is {_show(value)}; choose {choices}"


def _show(value: Any) -> str:
    """Return a value as it stands in YAML, shortened."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, dict):
        return "a block of keys"
    if isinstance(value, (list, tuple)):
        return "a list"
    if isinstance(value, int) and abs(value) >= 10_000:
        return f"{value:,}"
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
