"""What language a block is in, and whether it parses."""

from __future__ import annotations

import ast
import doctest
import json
import re
import textwrap
import warnings
from collections.abc import Callable

import yaml

_ALIASES = {
    "py": "python",
    "python3": "python",
    "py3": "python",
    "ipython": "python",
    "ipython3": "python",
    "pycon": "python",
    "pycon3": "python",
    "python-console": "python",
    "doctest": "python",
    "testcode": "python",
    "jsonc": "json",
    "yml": "yaml",
    "sh": "bash",
    "shell": "bash",
    "console": "bash",
    "shell-session": "bash",
    "zsh": "bash",
    "js": "javascript",
    "ts": "typescript",
    "c++": "cpp",
    "rs": "rust",
}
_DIRECTIVES = {"code-block", "code-cell", "code", "sourcecode"}
# Words without code; no snippets.
_NO_CODE = {"text", "txt", "none", "output", "log", "plain", "plaintext", "mermaid", "diff"}


def normal_language(label: str, code: str) -> str | None:
    """Return the language of a block that is labelled so; None = it is no code, or unknown.

    An unlabelled block is Python if it parses as more than a name or a number.
    """
    # MyST writes ```{code-block} python, R Markdown ```{python}.
    words = [word for word in re.split(r"[\s{}]+", label) if word and word not in _DIRECTIVES]
    name = words[0].lower().strip(",:") if words else ""
    if name in _NO_CODE:
        return None
    if name:
        return _ALIASES.get(name, name)
    return "python" if is_console(code) or _says_something(code) else None


def is_console(code: str) -> bool:
    """Return whether code is a session with Python's prompts."""
    return any(line.lstrip().startswith(">>>") for line in code.splitlines())


def checked(code: str, language: str) -> str | None:
    """Return the code as it is kept, or None if it does not parse in its language.

    A session with prompts becomes code with its answers as comments. A language without a parser
    here is kept as it is.
    """
    code = textwrap.dedent(code).strip("\n").rstrip()
    if language == "python" and is_console(code):
        session = _from_console(code)
        if session is None:
            return None
        code = session
    check = _CHECKS.get(language)
    return code if check is None or check(code) else None


def _from_console(code: str) -> str | None:
    """Return a session's statements, each followed by its answer as a comment."""
    try:
        examples = doctest.DocTestParser().get_examples(code + "\n")
    except ValueError:  # inconsistent indentation, or no blank after a prompt
        return None
    parts = []
    for example in examples:
        parts.append(example.source.rstrip("\n"))
        parts += [f"# {line}".rstrip() for line in example.want.rstrip("\n").split("\n") if line]
    return "\n".join(parts)


def _is_python(code: str) -> bool:
    try:
        tree_of(code)
    except (SyntaxError, ValueError, RecursionError, MemoryError):  # ValueError: a NUL inside
        return False
    return True


def tree_of(code: str) -> ast.Module:
    """Parse other people's Python without a word of its odd strings; raises what `ast` raises."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SyntaxWarning)
        warnings.simplefilter("ignore", DeprecationWarning)
        return ast.parse(code)


def _says_something(code: str) -> bool:
    try:
        body = tree_of(textwrap.dedent(code)).body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    plain = (ast.Name, ast.Constant, ast.Attribute, ast.Tuple, ast.UnaryOp, ast.BinOp)
    return any(not (isinstance(n, ast.Expr) and isinstance(n.value, plain)) for n in body)


def _is_json(code: str) -> bool:
    try:
        json.loads(code)
    except (ValueError, RecursionError):
        return False
    return True


def _is_yaml(code: str) -> bool:
    try:
        list(yaml.safe_load_all(code))
    except (yaml.YAMLError, ValueError, RecursionError):  # ValueError: a date that is none
        return False
    except (KeyError, IndexError, AttributeError, TypeError):  # a value that does not fit its tag
        return False
    return True


_CHECKS: dict[str, Callable[[str], bool]] = {
    "python": _is_python,
    "json": _is_json,
    "yaml": _is_yaml,
}
