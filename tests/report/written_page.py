"""Reads a written report back: its values with their addresses, and what those addresses hold.

Nothing of yxanul.report is used here: the addresses are followed by other code than wrote them.
"""

import json
import re
from dataclasses import dataclass, field
from functools import lru_cache
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import yaml

VOID = {"meta", "wbr", "br", "link", "img", "input", "hr"}
SILENT = {"script", "style", "title", "h1"}  # h1 and title: the name of the folder


@dataclass
class Value:
    """A value on the page: its addresses, formula, full value and the text that is shown."""

    sources: list[str]
    how: str
    value: str | None
    text: str = ""
    is_sentence: bool = False
    """Its figures are written as the page writes its own."""


@dataclass
class Page(HTMLParser):
    """A parsed report: traced values, figures by name, and texts with digits that are not traced.

    A caption explains how to read something and holds no figure of the run. What is cited is no
    figure of the run either, and says its source.
    """

    html: str
    values: list[Value] = field(default_factory=list)
    figures: dict[str, Any] = field(default_factory=dict)
    untraced: list[str] = field(default_factory=list)
    cited: list[tuple[str, str]] = field(default_factory=list)
    tags: list[tuple[str, dict]] = field(default_factory=list)
    words: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[tuple[str, dict]] = []
        self.feed(self.html)
        self.close()

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        self.tags.append((tag, attributes))
        if tag not in VOID:
            self.open.append((tag, attributes))
        if "data-source" in attributes:
            sources = attributes["data-source"].split()
            how = attributes.get("data-how", "")
            self.values.append(Value(sources, how, attributes.get("data-value")))
            self.values[-1].is_sentence = attributes.get("data-written") == "sentence"

    def handle_endtag(self, tag):
        assert self.open.pop()[0] == tag, f"</{tag}> closes another element"

    def handle_data(self, data):
        names = {tag for tag, _ in self.open}
        attributes = self.open[-1][1] if self.open else {}
        if attributes.get("type") == "application/json":
            name = attributes["id"].removeprefix("figure-")
            self.figures[name] = json.loads(self.figures.get(name, "") + data)
        if names & SILENT:
            return
        self.words.append(data)
        if any("data-source" in a for _, a in self.open):
            self.values[-1].text += data
        elif attributes.get("class") == "cited":
            self.cited.append((data, attributes["title"]))
        elif re.search(r"\d", data) and not any(
            "caption" in a.get("class", "") for _, a in self.open
        ):
            self.untraced.append(data.strip())

    @property
    def text(self) -> str:
        """All words of the page, as a person reads them."""
        return " ".join("".join(self.words).split())


def resolve(root: Path, source: str) -> Any:
    """Return what stands at an address: one value, or a list of them for every line."""
    place, _, fragment = source.partition("#")
    line = re.fullmatch(r"(.+\.jsonl):(\d+|\*)", place)
    path = root / unquote(line[1] if line else place)
    held = _parsed(path.read_text(encoding="utf-8"), "rows" if line else path.suffix)
    if line is None:
        return follow(held, fragment)
    if line[2] == "*":
        return [follow(row, fragment) for row in held]
    return follow(held[int(line[2]) - 1], fragment)


@lru_cache(maxsize=512)
def _parsed(text: str, kind: str) -> Any:
    """Return what a file holds, for addresses of rows their list; many point at the same file."""
    if kind == "rows":
        return [json.loads(row) for row in text.splitlines()]
    return yaml.safe_load(text) if kind == ".yaml" else json.loads(text)


def follow(value: Any, fragment: str) -> Any:
    """Follow a JSON pointer; in a list of all lines a row may lack the key."""
    for part in fragment.split("/")[1:]:
        key = unquote(part).replace("~1", "/").replace("~0", "~")
        value = value[int(key)] if isinstance(value, list) else value.get(key)
    return value


def plain_figures(text: str) -> str:
    """Return a sentence with its figures as they are stored: "−48.46 %" -> "-48.46%"."""
    return re.sub(r"\s?%", "%", text.replace("−", "-"))


def shown_number(text: str) -> tuple[float, float]:
    """Return the number that a shown text says, and half of its last digit."""
    time = re.fullmatch(r"(?:([\d,]+) h )?(?:(\d+) min)?(?: ?(\d+) s)?", text)
    if time and any(time.groups()):
        hours, minutes, seconds = (int((part or "0").replace(",", "")) for part in time.groups())
        return hours * 3600 + minutes * 60 + seconds, 30.0 if time[1] else 0.5
    match = re.fullmatch(r"\$?([+−]?)([\d,]+)(\.\d+)?(e[+-]\d+)?([KMBTP]?)( %| pp| [KMG]iB)?", text)
    assert match, text
    scale = {"": 1, "K": 1e3, "M": 1e6, "B": 1e9, "T": 1e12, "P": 1e15}[match[5]]
    units = {" KiB": 2.0**10, " MiB": 2.0**20, " GiB": 2.0**30, " %": 0.01, " pp": 0.01}
    scale *= units.get((match[6] or "").replace("\N{NO-BREAK SPACE}", " "), 1.0)
    scale *= float(f"1{match[4] or ''}")
    number = float(match[2].replace(",", "") + (match[3] or "")) * scale
    digits = len(match[3] or ".") - 1
    # format_count drops zeros at the end, so its last digit may be the second behind the point.
    digits = max(digits, 2) if match[5] or "iB" in (match[6] or "") else digits
    return -number if match[1] == "−" else number, 0.5 * 10.0**-digits * scale
