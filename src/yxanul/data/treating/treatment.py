"""What is done to a text by itself: clean, repair, judge, look for benchmark items, tokenise.

The one idea: all of it depends on the text alone, so batches of texts can be treated in any
process, in any order, with the same result. What depends on the other texts (duplicates, the order
of the stream) is in `yxanul.data.preparing.pipeline`. Whatever drops a text early and cheaply comes
first.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from typing import TYPE_CHECKING

import numpy as np

from yxanul.config.treatment import TreatmentConfig
from yxanul.data.contamination.judge import Judge, Verdict
from yxanul.data.contamination.wanted import Wanted
from yxanul.data.contamination.words import DOCUMENT_END, split_words
from yxanul.data.drop import Drop
from yxanul.data.duplicates.minhash import MinHash, Signature
from yxanul.data.treating.clean import clean, reason_to_drop
from yxanul.data.treating.encoders import Ids, make_encoder
from yxanul.errors import MissingExtraError

if TYPE_CHECKING:
    from yxanul.data.quality.rules import Rules

_NO_IDS = np.empty(0, dtype=np.uint16)
_SPAN_WORDS = 20


@dataclass(frozen=True)
class Treatment:
    """What is done to the texts of one source; goes to other processes as it is."""

    config: TreatmentConfig = field(default_factory=TreatmentConfig)
    min_tokens: int | None = None
    encoder: str = "tiktoken"
    wanted: tuple[Wanted, ...] = ()
    """Items of benchmarks whose documents are dropped."""

    @property
    def tools(self) -> dict[str, str]:
        """Versions of the libraries that the result depends on.

        Raises MissingExtraError if one is not installed.
        """
        names = ["datatrove", "spacy"] if self.config.has_rules else []
        names += ["ftfy"] if self.config.repair else []
        try:
            return {name: version(name) for name in names}
        except ModuleNotFoundError as error:
            raise _missing(str(error.name)) from error


@dataclass(frozen=True)
class Recipe:
    """A treatment, and what its result depends on besides the texts.

    `decontaminated` is {benchmark: sha256 of the items that are looked for}, `tools` are the
    versions of libraries.
    """

    treatment: Treatment
    decontaminated: dict[str, str]
    tools: dict[str, str]

    def as_json(self) -> dict[str, object]:
        """Return it as plain values; the items themselves are left out."""
        return {
            "config": self.treatment.config.model_dump(mode="json"),
            "min_tokens": self.treatment.min_tokens,
            "decontaminated": self.decontaminated,
            "tools": self.tools,
        }


def plain_recipe(treatment: Treatment) -> Recipe:
    """Return the recipe of a treatment that looks for no benchmark, with what is installed here.

    Raises MissingExtraError for a library that is not.
    """
    return Recipe(treatment, {}, treatment.tools)


@dataclass(frozen=True, slots=True)
class Treated:
    """One text after its treatment.

    `digest` (sha256) and `bytes` are those of the text as it is tokenised. A dropped one has no
    ids; only a source that asks for near duplicates has signatures.
    """

    digest: bytes
    bytes: int
    ids: Ids
    drop: Drop | None
    signature: Signature | None


@dataclass(frozen=True, slots=True)
class _Draft:
    text: str
    drop: Drop | None = None
    ids: Ids | None = None


class Treater:
    """Treats batches of texts in one process; it takes about a second to make one."""

    def __init__(self, treatment: Treatment) -> None:
        """Raise MissingExtraError if a library is missing that the treatment needs."""
        self._treatment = treatment
        config = treatment.config
        self._remove = re.compile(config.remove_pattern) if config.remove_pattern else None
        self._require = re.compile(config.require_pattern) if config.require_pattern else None
        self._encoder = make_encoder(treatment.encoder)
        self._judge = Judge(treatment.wanted) if treatment.wanted else None
        self._minhash = MinHash() if config.near_duplicates is not None else None
        self._rules = _rules(config) if config.has_rules else None

    @property
    def note(self) -> str | None:
        """What the user should know of how texts are encoded; None = nothing."""
        note: str | None = getattr(self._encoder, "note", None)
        return note

    def treat(self, texts: Sequence[str]) -> list[Treated]:
        """Return each text as it is tokenised, or why it is not."""
        drafts = [self._draft(text) for text in texts]
        if self._treatment.min_tokens is not None:
            drafts = self._long_enough(drafts)
        if self._rules is not None:
            drafts = [self._judged(draft, self._rules) for draft in drafts]
        if self._judge is not None:
            drafts = self._uncontaminated(drafts, self._judge)
        drafts = self._encoded(drafts)
        return [self._treated(draft) for draft in drafts]

    def _draft(self, raw: str) -> _Draft:
        text = raw
        if self._treatment.config.repair:
            text = _repaired(text)
        if self._remove is not None:
            text = self._remove.sub("", text)
        text = clean(text)
        reason = reason_to_drop(text)
        if reason is None and self._require is not None and not self._require.search(text):
            reason = "not_whole"
        least = self._treatment.min_tokens
        if reason is None and least is not None and len(text.encode()) < least:
            # A token has at least one byte: most short texts need no tokenizer.
            return _Draft(text, Drop("too_short", len(text.encode()), least, "bytes"))
        return _Draft(text, Drop(reason) if reason else None)

    def _long_enough(self, drafts: list[_Draft]) -> list[_Draft]:
        least = self._treatment.min_tokens or 0
        return [
            replace(draft, drop=Drop("too_short", len(draft.ids), least, "tokens"), ids=None)
            if draft.ids is not None and len(draft.ids) < least
            else draft
            for draft in self._encoded(drafts)
        ]

    def _judged(self, draft: _Draft, rules: Rules) -> _Draft:
        if draft.drop is not None:
            return draft
        text, drop = rules.judge(draft.text)
        if drop is not None:
            return _Draft(draft.text, drop)
        if text == draft.text:
            return draft
        # Rules that take lines out may leave none.
        reason = reason_to_drop(clean(text))
        return _Draft(text, Drop(reason) if reason else None)

    def _uncontaminated(self, drafts: list[_Draft], judge: Judge) -> list[_Draft]:
        kept = [place for place, draft in enumerate(drafts) if draft.drop is None]
        words = split_words(DOCUMENT_END.join(drafts[place].text for place in kept))
        first: dict[int, Verdict] = {}
        for verdict in judge.judge(judge.vocabulary.ids(words)):
            first.setdefault(kept[verdict.document], verdict)
        return [
            _Draft(draft.text, self._contaminated(first[place], words)) if place in first else draft
            for place, draft in enumerate(drafts)
        ]

    def _contaminated(self, verdict: Verdict, words: list[str]) -> Drop:
        item = self._treatment.wanted[verdict.item]
        span = " ".join(words[verdict.begin : min(verdict.end, verdict.begin + _SPAN_WORDS)])
        how = f"{verdict.rule}{', digits masked' if verdict.masked else ''}"
        return Drop(
            f"contaminated_{item.task}",
            value=round(verdict.coverage, 4),
            detail=f"{item.id} ({how}): {span}",
        )

    def _encoded(self, drafts: list[_Draft]) -> list[_Draft]:
        waiting = [draft.text for draft in drafts if draft.drop is None and draft.ids is None]
        ids = iter(self._encoder.encode_arrays(waiting))
        return [
            replace(draft, ids=next(ids)) if draft.drop is None and draft.ids is None else draft
            for draft in drafts
        ]

    def _treated(self, draft: _Draft) -> Treated:
        content = draft.text.encode()
        is_kept = draft.drop is None
        return Treated(
            digest=hashlib.sha256(content).digest(),
            bytes=len(content),
            ids=draft.ids if draft.ids is not None and is_kept else _NO_IDS,
            drop=draft.drop,
            signature=self._minhash.signature(draft.text) if self._minhash and is_kept else None,
        )


def _rules(config: TreatmentConfig) -> Rules:
    try:
        from yxanul.data.quality.rules import Rules  # needs the extra, and takes a second
    except ImportError as error:
        raise _missing(str(error.name)) from error
    return Rules(config)


def _repaired(text: str) -> str:
    try:
        import ftfy  # an optional extra
    except ImportError as error:
        raise _missing("ftfy") from error
    repaired: str = ftfy.fix_text(text, uncurl_quotes=False)
    return repaired


def _missing(package: str) -> MissingExtraError:
    return MissingExtraError(
        f"The treatment of the data needs the package {package}, which is not installed: pip "
        'install "yxanul[data]", or switch the rule sets and repair off in the stage\'s file.'
    )
