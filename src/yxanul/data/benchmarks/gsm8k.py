"""GSM8K: a problem of school arithmetic and its solution in steps (arXiv 2110.14168)."""

from __future__ import annotations

import re

from yxanul.data.benchmarks.fields import Fields
from yxanul.data.items import AnswerItem

_RESULT = re.compile(r"#### -?[0-9.,]+\s*$")


def from_row(row: Fields, number: int) -> AnswerItem:
    """Return the item of a row, on the hub and in a folder; the solution ends in `#### N`."""
    answer = row.text("answer")
    if not _RESULT.search(answer):
        raise row.wrong("has an answer that does not end in #### and a number")
    return AnswerItem(str(number), f"Question: {row.text('question')}\nAnswer:", answer)
