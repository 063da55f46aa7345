"""The blocks of a text in order: headings, paragraphs, code; from Markdown and reStructuredText.

The one idea: both markups become one flat list, so snippets are made of it in one place.
reStructuredText is read line by line: what documentation writes is Sphinx's, whose directives
docutils alone does not know, and docstrings are rarely valid markup.
"""

from __future__ import annotations

import re
import textwrap
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from markdown_it import MarkdownIt

from yxanul.data.sources.snippets.language import checked, normal_language
from yxanul.data.sources.snippets.snippet import Snippet, is_sized, shortened

_UNDERLINE = re.compile(r"^([=\-~^\"'`#*+.:_])\1{2,}\s*$")
_DIRECTIVE = re.compile(r"^\s*\.\. (?:code-block|code|sourcecode|testcode|ipython)::\s*(\S*)\s*$")
_OTHER_DIRECTIVE = re.compile(r"^\s*\.\. ")
_OPTION = re.compile(r"^\s*:[\w-]+:")
# Cross-references of Sphinx and literals: the words inside are what a reader sees.
_ROLE = re.compile(r":[\w:+.-]+:`~?([^`<]*?)(?:\s*<[^`>]*>)?`")


@dataclass(frozen=True, slots=True)
class Block:
    """`label` is the language that a code block is said to be in, perhaps nothing."""

    kind: Literal["heading", "paragraph", "code"]
    text: str
    label: str = ""


def snippets_of(blocks: Iterable[Block], *, title: str, dropped: Counter[str]) -> list[Snippet]:
    """Return the snippets of a text; `title` stands for a heading before the first one.

    Counted in `dropped`: blocks that do not parse (by language), and those that are no code.
    """
    found: list[Snippet] = []
    description = ""
    for block in blocks:
        if block.kind == "heading":
            title, description = shortened(block.text) or title, ""
        elif block.kind == "paragraph":
            description = shortened(block.text)
        else:
            found += snippet_of(block, title=title, description=description, dropped=dropped)
    return found


def snippet_of(
    block: Block, *, title: str, description: str, dropped: Counter[str]
) -> list[Snippet]:
    """Return the snippet of a block of code; none is counted in `dropped`."""
    language = normal_language(block.label, block.text)
    code = checked(block.text, language) if language else None
    if language and code is not None and is_sized(code):
        return [Snippet(title, description, language, code)]
    dropped[f"{language} that does not parse" if language else "no code"] += 1
    return []


def markdown_blocks(text: str) -> Iterator[Block]:
    """Yield the blocks of Markdown (CommonMark, also MyST's fences)."""
    inside: str | None = None
    for token in MarkdownIt("commonmark").parse(text):
        if token.type in ("heading_open", "paragraph_open"):
            inside = token.type
        elif token.type == "inline" and inside:
            kind: Literal["heading", "paragraph"] = (
                "heading" if inside == "heading_open" else "paragraph"
            )
            yield Block(kind, token.content)
            inside = None
        elif token.type in ("fence", "code_block"):
            yield Block("code", token.content, token.info)


def rst_blocks(text: str) -> Iterator[Block]:
    """Yield the blocks of reStructuredText, as Sphinx' documentation and docstrings write it."""
    lines = text.expandtabs().split("\n")
    place = 0
    while place < len(lines):
        line = lines[place]
        directive = _DIRECTIVE.match(line)
        if directive:
            code, place = _indented(lines, place + 1, deeper_than=_indent(line))
            yield Block("code", code, directive[1] or "python")
        elif not line.strip() or _OTHER_DIRECTIVE.match(line) or _OPTION.match(line):
            place += 1
        elif line.lstrip().startswith(">>>"):
            session, place = _until_blank(lines, place)
            yield Block("code", session, "pycon")
        elif place + 1 < len(lines) and _is_heading(line, lines[place + 1]):
            yield Block("heading", _plain(line))
            place += 2
        elif _UNDERLINE.match(line):
            place += 1
        else:
            paragraph, place = _until_blank(lines, place)
            opens = paragraph.rstrip().endswith("::")
            yield Block("paragraph", _plain(paragraph))
            if opens:
                code, place = _indented(lines, place, deeper_than=_indent(line))
                yield Block("code", code)


def _is_heading(line: str, below: str) -> bool:
    mark = _UNDERLINE.match(below)
    return mark is not None and len(below.strip()) >= len(line.strip()) - 1


def _plain(text: str) -> str:
    """Return a text without the marks of roles and literals, and with `::` as a colon."""
    text = _ROLE.sub(r"\1", text).replace("``", "`")
    return re.sub(r"::\s*$", ":", text.strip())


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())


def _indented(lines: list[str], place: int, *, deeper_than: int) -> tuple[str, int]:
    """Return (the block that is indented deeper, the line after it), without its options."""
    start = place
    while place < len(lines) and (not lines[place].strip() or _indent(lines[place]) > deeper_than):
        place += 1
    body = lines[start:place]
    while body and (not body[0].strip() or _OPTION.match(body[0])):
        body.pop(0)
    return textwrap.dedent("\n".join(body)).rstrip(), place


def _until_blank(lines: list[str], place: int) -> tuple[str, int]:
    start = place
    while place < len(lines) and lines[place].strip():
        place += 1
    return textwrap.dedent("\n".join(lines[start:place])), place
