"""A piece of documentation that shows code, and the page that its snippets make.

The one idea: what is taught is the way from a sentence to code that works, so a snippet is code
with the words that lead to it, and code that does not parse is none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

_MOST_DESCRIPTION = 1_000
_MOST_CODE = 12_000


@dataclass(frozen=True, slots=True)
class Snippet:
    """`title` is the heading it stands under, `description` the paragraph before it."""

    title: str
    description: str
    language: str
    code: str


@dataclass(frozen=True, slots=True)
class Page:
    """The snippets of one file or of one public name, and where it comes from."""

    name: str
    source: str
    snippets: Sequence[Snippet]

    def text(self) -> str:
        """Return the page as Markdown; a title or description is said once."""
        parts, title, description = [f"Source: {self.source}"], "", ""
        for snippet in self.snippets:
            if snippet.title != title:
                title = snippet.title
                parts.append(f"# {title}")
            if snippet.description and snippet.description != description:
                description = snippet.description
                parts.append(description)
            fence = "```" if "```" not in snippet.code else "~~~~"
            parts.append(f"{fence}{snippet.language}\n{snippet.code}\n{fence}")
        return "\n\n".join(parts) + "\n"


def shortened(description: str) -> str:
    """Return a description of a bearable length, in one line."""
    return " ".join(description.split())[:_MOST_DESCRIPTION]


def is_sized(code: str) -> bool:
    """Return whether code is neither empty nor a whole program."""
    return bool(code.strip()) and len(code) <= _MOST_CODE
