"""One file of documentation as pages: Markdown, reStructuredText, notebooks, Python, llms.txt."""

from __future__ import annotations

import ast
import inspect
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator

from yxanul.data.sources.snippets.blocks import (
    Block,
    markdown_blocks,
    rst_blocks,
    snippet_of,
    snippets_of,
)
from yxanul.data.sources.snippets.language import tree_of
from yxanul.data.sources.snippets.snippet import Page, Snippet, shortened

Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
# Context7's form of llms.txt: fields, and a fence of code, between lines of dashes.
_ENTRY = re.compile(
    r"TITLE: (?P<title>.*?)\n+DESCRIPTION: (?P<description>.*?)\n+(?:SOURCE: (?P<source>.*?)\n+)?"
    r"LANGUAGE: (?P<language>.*?)\n+CODE:\n+```[^\n]*\n(?P<code>.*?)\n```",
    re.DOTALL,
)
_SHOWS_CODE = (">>>", "::", "```")
_LABEL_WORDS = 2
_MAGIC = re.compile(r"^\s*[%!?]|^\s*\w+\?$", re.MULTILINE)


def markdown_pages(name: str, text: str, *, source: str, dropped: Counter[str]) -> Iterator[Page]:
    """Yield the page of a Markdown file."""
    snippets = snippets_of(markdown_blocks(text), title=name, dropped=dropped)
    yield Page(name, source, snippets)


def rst_pages(name: str, text: str, *, source: str, dropped: Counter[str]) -> Iterator[Page]:
    """Yield the page of a reStructuredText file."""
    yield Page(name, source, snippets_of(rst_blocks(text), title=name, dropped=dropped))


def llms_pages(name: str, text: str, *, source: str, dropped: Counter[str]) -> Iterator[Page]:
    """Yield the page of an llms.txt file, in Context7's form or as Markdown."""
    entries = list(_ENTRY.finditer(text))
    if not entries:
        yield from markdown_pages(name, text, source=source, dropped=dropped)
        return
    snippets: list[Snippet] = []
    for entry in entries:
        code = Block("code", entry["code"], entry["language"])
        title, description = shortened(entry["title"]), shortened(entry["description"])
        snippets += snippet_of(code, title=title, description=description, dropped=dropped)
    yield Page(name, source, snippets)


def notebook_pages(name: str, text: str, *, source: str, dropped: Counter[str]) -> Iterator[Page]:
    """Yield the page of a Jupyter notebook; cells with magics of IPython are no Python."""
    try:
        book = json.loads(text)
        cells = [(str(cell["cell_type"]), "".join(cell["source"])) for cell in book["cells"]]
    except (ValueError, KeyError, TypeError, RecursionError):
        dropped["damaged notebook"] += 1
        return
    blocks: list[Block] = []
    for kind, content in cells:
        if kind == "markdown":
            blocks += markdown_blocks(content)
        elif kind == "code" and content.strip():
            blocks.append(Block("code", content, "ipython" if _MAGIC.search(content) else "python"))
    yield Page(name, source, snippets_of(blocks, title=name, dropped=dropped))


def python_pages(name: str, text: str, *, source: str, dropped: Counter[str]) -> Iterator[Page]:
    """Yield a page for a module and for each public name whose docstring shows code.

    Nothing is imported or run.
    """
    try:
        tree = tree_of(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        dropped["python file that does not parse"] += 1
        return
    module = name.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
    for dotted, node in _documented(tree, module):
        docstring = ast.get_docstring(node, clean=False)
        if docstring is None or not any(mark in docstring for mark in _SHOWS_CODE):
            continue
        cleaned = inspect.cleandoc(docstring)
        summary = shortened(cleaned.split("\n\n")[0])
        blocks = markdown_blocks(cleaned) if "```" in cleaned else rst_blocks(cleaned)
        snippets = [
            Snippet(dotted, _telling(one.description, summary), one.language, one.code)
            for one in snippets_of(blocks, title=dotted, dropped=dropped)
        ]
        yield Page(dotted, source, snippets)


def _telling(description: str, summary: str) -> str:
    """Return the summary for a description like "Example:", which says nothing."""
    is_label = description.endswith(":") and len(description.split()) <= _LABEL_WORDS
    return summary if is_label or not description else description


def _documented(tree: ast.Module, module: str) -> Iterator[tuple[str, ast.Module | Definition]]:
    yield module, tree
    waiting: list[tuple[str, ast.stmt]] = [(module, node) for node in reversed(tree.body)]
    while waiting:
        prefix, node = waiting.pop()
        if isinstance(node, Definition) and not node.name.startswith("_"):
            dotted = f"{prefix}.{node.name}"
            yield dotted, node
            if isinstance(node, ast.ClassDef):
                waiting += [(dotted, child) for child in reversed(node.body)]


PageReader = Callable[..., Iterator[Page]]
READERS: dict[str, PageReader] = {
    ".md": markdown_pages,
    ".mdx": markdown_pages,
    ".rst": rst_pages,
    ".ipynb": notebook_pages,
    ".py": python_pages,
}
LLMS_NAMES = ("llms.txt", "llms-full.txt")
