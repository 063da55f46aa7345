"""HellaSwag: which of four endings goes on from a description (Zellers et al., arXiv 1905.07830).

The text is prepared as lm-evaluation-harness prepares it. The file of a folder holds it already
joined to `activity: context`, so its second contexts are not capitalised: other texts, other hash.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from yxanul.data.benchmarks.fields import Fields
from yxanul.data.benchmarks.files import read_lines
from yxanul.data.items import ChoiceItem
from yxanul.errors import CorruptDataError

ENDINGS = 4
_LINES = 2 + ENDINGS


def from_hub(row: Fields, number: int) -> ChoiceItem:
    """Return the item of a row of Rowan/hellaswag."""
    context = f"{row.text('ctx_a')} {row.any_text('ctx_b').capitalize()}"
    endings = tuple(_clean(ending) for ending in row.texts("endings"))
    if len(endings) != ENDINGS:
        raise row.wrong(f"has {len(endings)} endings, not {ENDINGS}")
    return ChoiceItem(
        id=str(number),
        prompt=_clean(f"{row.text('activity_label')}: {context}"),
        choices=endings,
        answer=_label(row, row.any_text("label")),
        # Several items of ActivityNet are moments of one video.
        cluster=row.any_text("source_id"),
    )


def from_file(path: Path) -> Iterator[ChoiceItem]:
    """Yield the items of a text file: six lines each, the right ending's index in the second."""
    block: list[tuple[str, bytes]] = []
    number = 0
    for line in read_lines(path):
        block.append(line)
        if len(block) == _LINES:
            yield _from_block(block, number)
            block, number = [], number + 1
    if block:
        raise CorruptDataError(
            f"{block[0][0]} begins an item of {len(block)} lines, not {_LINES}: bring the original "
            "file back."
        )


def _from_block(block: list[tuple[str, bytes]], number: int) -> ChoiceItem:
    prompt, label, *endings = (_decoded(place, line) for place, line in block)
    row = Fields({}, block[1][0])
    return ChoiceItem(str(number), prompt, tuple(endings), _label(row, label))


def _decoded(place: str, line: bytes) -> str:
    try:
        return Fields({"text": line.decode()}, place).text("text")
    except UnicodeDecodeError as error:
        raise CorruptDataError(f"{place} is not UTF-8: bring the original file back.") from error


def _label(row: Fields, label: str) -> int:
    if label not in map(str, range(ENDINGS)):
        raise row.wrong(f"has the label {label[:40]!r}, not 0 to {ENDINGS - 1}")
    return int(label)


def _clean(text: str) -> str:
    """Take away the marks that WikiHow's pages left in brackets, as the harness does."""
    without_titles = text.strip().replace(" [title]", ". ")
    return re.sub(r"\[.*?\]", "", without_titles).replace("  ", " ")
