"""The rule sets of a source over one text: kept, perhaps without some lines, or dropped with why.

The one idea: the rules are datatrove's filters themselves, the cheap ones first, over words that
are found once. Needs the extra yxanul[data].
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from datatrove.data import Document
from datatrove.pipeline.filters import (
    C4QualityFilter,
    FineWebQualityFilter,
    GopherQualityFilter,
    GopherRepetitionFilter,
)

from yxanul.config.treatment import GopherRepetition, TreatmentConfig
from yxanul.data.drop import Drop
from yxanul.data.quality.measures import measure
from yxanul.data.quality.words import SharedWords


class Rules:
    """The rule sets that `config` switches on."""

    def __init__(self, config: TreatmentConfig) -> None:
        self._words = SharedWords()
        self._filters = list(_filters(config, self._words))

    def judge(self, text: str) -> tuple[str, Drop | None]:
        """Return the text as the rules leave it, and why it is dropped (None = it is kept)."""
        document = Document(text=text, id="")
        for name, rules in self._filters:
            # datatrove's filters divide by the number of words.
            if not self._words.readable(document.text).strip():
                return document.text, Drop("empty")
            result = rules.filter(document)
            passed, reason = result if isinstance(result, tuple) else (result, "rule")
            if not passed:
                return document.text, _drop(name, reason, rules=rules, text=document.text)
        return document.text, None


def _filters(config: TreatmentConfig, words: SharedWords) -> Iterator[tuple[str, Any]]:
    if config.c4:
        yield "c4", C4QualityFilter(**config.c4.model_dump(), language=words)
    if config.fineweb:
        yield "fineweb", FineWebQualityFilter(**config.fineweb.model_dump(), language=words)
    if config.gopher_quality:
        yield "gopher", GopherQualityFilter(**config.gopher_quality.model_dump(), language=words)
    if config.gopher_repetition:
        settings = _repetition(config.gopher_repetition)
        yield "gopher", GopherRepetitionFilter(**settings, language=words)


def _repetition(config: GopherRepetition) -> dict[str, Any]:
    """Return datatrove's parameters, in which each limit stands beside its number of words."""
    return {
        **config.model_dump(),
        "top_n_grams": [(n, limit) for n, limit in enumerate(config.top_n_grams, 2) if limit],
        "dup_n_grams": [(n, limit) for n, limit in enumerate(config.dup_n_grams, 5) if limit],
    }


def _drop(name: str, reason: str, *, rules: Any, text: str) -> Drop:
    rule = reason if reason.startswith(name) else f"{name}_{reason}"
    value, limit = measure(reason, rules, text=text)
    return Drop(rule, value, limit)
