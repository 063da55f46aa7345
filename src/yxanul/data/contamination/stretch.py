"""One stretch of a source's training stream, decoded block by block and looked through.

Blocks overlap, so that a copy which a border cuts lies whole in the next one; a copy is found if it
is at most 2,048 tokens long, or has 13 words in a row in one block. Memory stays below about 100 MB
whatever the length of a document.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from yxanul.data.contamination.judge import Judge, Verdict
from yxanul.data.contamination.words import DOCUMENT_END, split_words
from yxanul.data.prepared.manifest import Manifest
from yxanul.data.prepared.shards import Tokens, open_stream
from yxanul.data.tokenizer import EOT, Tokenizer, load_tokenizer

BLOCK_TOKENS = 1 << 18
OVERLAP_TOKENS = 2048
_MOST_DOCUMENTS = 100
_SPAN_WORDS = 40


@dataclass(frozen=True)
class Stretch:
    """Tokens begin .. end - 1 of the training stream of a source."""

    source: str
    begin: int
    end: int


@dataclass(frozen=True)
class Held:
    """An item that a document holds: its index, a token of that document, and the evidence."""

    item: int
    position: int
    rule: str
    masked: bool
    coverage: float
    span: str


@dataclass(frozen=True)
class ScannedStretch:
    """What a stretch holds, at most 100 documents per item, and how many words it has."""

    stretch: Stretch
    held: list[Held]
    words: int


def scan_stretch(
    stretch: Stretch, manifest: Manifest, *, root: Path, judge: Judge
) -> ScannedStretch:
    """Look through one stretch; raise `CorruptShardError` for damaged files."""
    stream = open_stream(manifest, root, source=stretch.source, split="train")
    tokenizer = load_tokenizer()
    held: dict[int, dict[int, Held]] = {}
    total = 0
    for begin in range(stretch.begin, stretch.end, BLOCK_TOKENS):
        first = max(0, begin - OVERLAP_TOKENS)
        ids = stream.read(first, min(begin + BLOCK_TOKENS, stretch.end) - first)
        starts, text = _documents(ids, tokenizer)
        words = split_words(text)
        total += len(words)
        for verdict in judge.judge(judge.vocabulary.ids(words)):
            documents = held.setdefault(verdict.item, {})
            position = first + starts[verdict.document]
            if len(documents) < _MOST_DOCUMENTS:
                documents.setdefault(position, _held(verdict, position, words=words))
    found = [one for documents in held.values() for one in documents.values()]
    return ScannedStretch(stretch, found, total)


def _documents(ids: Tokens, tokenizer: Tokenizer) -> tuple[list[int], str]:
    """Return where documents (or the rest of one) begin in a block, and their texts in a row."""
    begins = np.flatnonzero(ids == EOT)
    starts = begins.tolist() if len(begins) and begins[0] == 0 else [0, *begins.tolist()]
    stops = [*starts[1:], len(ids)]
    texts = (
        tokenizer.decode(ids[start + (ids[start] == EOT) : stop].tolist())
        for start, stop in zip(starts, stops, strict=True)
    )
    return starts, DOCUMENT_END.join(texts)


def _held(verdict: Verdict, position: int, *, words: list[str]) -> Held:
    end = min(verdict.end, verdict.begin + _SPAN_WORDS)
    return Held(
        item=verdict.item,
        position=position,
        rule=verdict.rule,
        masked=verdict.masked,
        coverage=round(verdict.coverage, 4),
        span=" ".join(words[verdict.begin : end]),
    )
