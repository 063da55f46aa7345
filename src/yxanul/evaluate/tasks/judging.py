"""What counts as right, item by item, as lm-evaluation-harness 0.4.13 judges.

gsm_symbolic, which the harness does not have, is judged by the last number that was written.
"""

from __future__ import annotations

import math
import re
import string
from collections.abc import Callable, Sequence

from yxanul.data.benchmarks.gsm_symbolic import last_number
from yxanul.data.items import AnswerItem
from yxanul.data.sources.mathematics import normal_number

_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)
_STRICT = re.compile(r"#### (\-?[0-9\.\,]+)")
_FLEXIBLE = re.compile(r"(-?[$0-9.,]{2,})|(-?[0-9]+)")
# What is taken out of both numbers before they are compared; the third leaves only the result of
# a whole solution.
_IGNORED = tuple(re.compile(pattern) for pattern in (",", r"\$", r"(?s).*#### ", r"\.$"))
_NOTHING = "[invalid]"
"""Stands for a number that was not written, and is never right."""


def likeliest(nats: Sequence[float]) -> int:
    """Return the index of the likeliest text, the first of equals."""
    return min(range(len(nats)), key=nats.__getitem__)


def likeliest_per_character(nats: Sequence[float], texts: Sequence[str]) -> int:
    """Return the index of the likeliest text in nats per character, the first of equals.

    The harness divides by characters, not bytes, and does not count the space before the text. An
    empty text is never chosen.
    """
    rates = [cost / len(text) if text else math.inf for cost, text in zip(nats, texts, strict=True)]
    return likeliest(rates)


def is_alias(written: str, item: AnswerItem) -> bool:
    """Tell whether a text is one of the answers, by letters and digits alone."""
    return _letters(written.strip()) in map(_letters, item.aliases or (item.answer,))


def is_strict_number(written: str, item: AnswerItem) -> bool:
    """Tell whether the first number after `#### ` is that of the solution."""
    found = _STRICT.findall(written)
    return _bare(found[0] if found else _NOTHING) == _bare(item.answer)


def is_flexible_number(written: str, item: AnswerItem) -> bool:
    """Tell whether the last number of a text is that of the solution."""
    found = _FLEXIBLE.findall(written)
    return _bare("".join(found[-1]) if found else _NOTHING) == _bare(item.answer)


def is_last_number(written: str, item: AnswerItem) -> bool:
    """Tell whether the last number of a text is the last one of the answer."""
    wanted = _last_number(item.aliases[0] if item.aliases else item.answer)
    return wanted is not None and _last_number(written) == wanted


WRITTEN: dict[str, dict[str, Callable[[str, AnswerItem], bool]]] = {
    "triviaqa": {"exact_match": is_alias},
    "gsm8k": {"exact_match": is_strict_number, "exact_match_flexible": is_flexible_number},
    "gsm_symbolic": {"exact_match": is_last_number},
}
"""Measures of written answers by task."""


def _letters(text: str) -> str:
    return text.lower().translate(_NO_PUNCTUATION)


def _bare(number: str) -> str:
    for pattern in _IGNORED:
        number = pattern.sub("", number)
    return number.lower()


def _last_number(text: str) -> str | None:
    found = last_number(text)
    return None if found is None else normal_number(found)
