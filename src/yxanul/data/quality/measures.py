"""How far a dropped text is from passing: the number behind a reason of datatrove's filters.

The one idea: a filter says only which rule failed, so the number is computed again for the texts
that are dropped, which are few. Needs the extra yxanul[data].
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from datatrove.pipeline.filters.gopher_repetition_filter import (
    find_all_duplicate,
    find_duplicates,
    find_top_duplicate,
    get_n_grams,
)
from datatrove.utils.text import PUNCTUATION_SET, split_into_words

_N_GRAM = re.compile(r"(top|duplicated)_(\d+)_")


def measure(reason: str, rules: Any, *, text: str) -> tuple[float | None, float | None]:
    """Return (value, limit) of what the filter `rules` found wrong with a text.

    Both are None for a reason that has no number, such as a curly bracket.
    """
    repeated = _N_GRAM.match(reason)
    if repeated:
        return _runs(repeated[1], int(repeated[2]), rules=rules, text=text)
    if reason not in _MEASURES:
        return None, None
    attribute, value = _MEASURES[reason]
    return value(text, rules), float(getattr(rules, attribute))


def _runs(kind: str, n: int, *, rules: Any, text: str) -> tuple[float, float]:
    words = split_into_words(text, rules.language)
    if kind == "top":
        characters = find_top_duplicate(get_n_grams(words, n))
        return characters / len(text), dict(rules.top_n_grams)[n]
    return find_all_duplicate(words, n) / len(text), dict(rules.dup_n_grams)[n]


def _words(text: str, rules: Any) -> list[str]:
    words: list[str] = split_into_words(text, rules.language)
    return words


def _real_words(text: str, rules: Any) -> list[str]:
    """Return the words that are not punctuation alone."""
    return [w for w in _words(text, rules) if any(char not in PUNCTUATION_SET for char in w)]


def _mean_length(text: str, rules: Any) -> float:
    words = _real_words(text, rules)
    return sum(map(len, words)) / max(1, len(words))


def _per_word(count: Callable[[str], int]) -> Callable[[str, Any], float]:
    return lambda text, rules: count(text) / max(1, len(_words(text, rules)))


def _share(lines: Callable[[str], list[str]], fits: Callable[[str, Any], bool]) -> Any:
    def share(text: str, rules: Any) -> float:
        found = lines(text)
        return sum(fits(line, rules) for line in found) / max(1, len(found))

    return share


def _repeated(parts: str, *, characters: bool) -> Callable[[str, Any], float]:
    def share(text: str, rules: Any) -> float:
        if parts == "paragraphs":
            found = rules.paragraph_exp.split(text.strip())
        else:
            found = re.split("\n+", text)
        number, length = find_duplicates(found)
        result: float = length / len(text) if characters else number / len(found)
        return result

    return share


def _full_lines(text: str) -> list[str]:
    return [line for line in text.split("\n") if line.strip()]


def _repeated_line_characters(text: str, rules: Any) -> float:
    characters: int = find_duplicates(_full_lines(text))[1]
    return characters / len(text.replace("\n", ""))


def _begins_with_bullet(line: str, rules: Any) -> bool:
    return line.lstrip().startswith(("•", "-"))


def _ends_in_ellipsis(line: str, rules: Any) -> bool:
    return line.rstrip().endswith(("...", "…"))


# Reason of datatrove -> (attribute of its filter that holds the limit, the value).
_MEASURES: dict[str, tuple[str, Callable[[str, Any], float]]] = {
    "gopher_short_doc": ("min_doc_words", lambda text, rules: len(_real_words(text, rules))),
    "gopher_long_doc": ("max_doc_words", lambda text, rules: len(_real_words(text, rules))),
    "gopher_below_avg_threshold": ("min_avg_word_length", _mean_length),
    "gopher_above_avg_threshold": ("max_avg_word_length", _mean_length),
    "gopher_too_many_hashes": (
        "max_symbol_word_ratio",
        _per_word(lambda text: text.count("#")),
    ),
    "gopher_too_many_ellipsis": (
        "max_symbol_word_ratio",
        _per_word(lambda text: text.count("...") + text.count("…")),
    ),
    "gopher_too_many_bullets": (
        "max_bullet_lines_ratio",
        _share(str.splitlines, _begins_with_bullet),
    ),
    "gopher_too_many_end_ellipsis": (
        "max_ellipsis_lines_ratio",
        _share(str.splitlines, _ends_in_ellipsis),
    ),
    "gopher_below_alpha_threshold": (
        "max_non_alpha_words_ratio",
        lambda text, rules: (
            sum(any(char.isalpha() for char in word) for word in _words(text, rules))
            / max(1, len(_words(text, rules)))
        ),
    ),
    "gopher_enough_stop_words": (
        "min_stop_words",
        lambda text, rules: len(rules.stop_words.intersection(_words(text, rules))),
    ),
    "dup_para_frac": ("dup_para_frac", _repeated("paragraphs", characters=False)),
    "dup_para_char_frac": ("dup_para_char_frac", _repeated("paragraphs", characters=True)),
    "dup_line_frac": ("dup_line_frac", _repeated("lines", characters=False)),
    "dup_line_char_frac": ("dup_line_char_frac", _repeated("lines", characters=True)),
    "line_punct_ratio": (
        "line_punct_thr",
        _share(_full_lines, lambda line, rules: line.endswith(rules.stop_chars)),
    ),
    "short_line_ratio": (
        "short_line_threshold",
        _share(_full_lines, lambda line, rules: len(line) <= rules.short_line_length),
    ),
    "char_dup_ratio": ("char_duplicates_ratio", _repeated_line_characters),
    "list_ratio": ("new_line_ratio", _per_word(lambda text: text.count("\n"))),
}
