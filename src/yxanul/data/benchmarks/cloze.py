"""Cloze: which of four clauses goes on with a paragraph? Made from the prepared folder itself.

The one idea: all four endings are real ones, cut from held-out documents of the same source by the
same rule, and cost the same under word frequencies alone; so whoever does not read the context is
right in one of four cases. A paragraph that shares 13 words in a row with the training text is left
out: the Factbook fills in forms. Everything is chosen by hashes of the texts: an item keeps its id
when the set grows, and there is no seed. Like HellaSwag (arXiv 1905.07830), but no ending was
written to mislead: it measures how well a small model reads.
"""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from yxanul.data.contamination.judge import Judge
from yxanul.data.contamination.stretch import Stretch, scan_stretch
from yxanul.data.contamination.wanted import Wanted
from yxanul.data.contamination.words import split_words
from yxanul.data.items import Benchmark, ChoiceItem
from yxanul.data.prepared.documents import read_documents
from yxanul.data.prepared.manifest import Manifest
from yxanul.data.prepared.shards import TokenStream, open_stream
from yxanul.data.tokenizer import VOCAB_SIZE, Tokenizer, load_tokenizer
from yxanul.errors import UsageError

TASK = "cloze"
ITEMS = 400
# Domains whose text is no prose: a clause of theirs has no natural continuation.
NOT_PROSE = frozenset({"reasoning", "math", "code", "api_docs"})
# Characters. Shorter endings and longer contexts are answered better, by 8.5M parameters: 0.45 of
# the items right with these, 0.38 with endings of 30 to 90 after contexts of 60 to 250.
ENDING = (20, 50)
CONTEXT = (120, 300)
# Nats between the endings of an item under word frequencies, at most.
_NATS_APART = 4.0
_PER_DOCUMENT = 4
_MOST_DOCUMENTS = 2000
_MOST_TOKENS = 2048
# Of the training text, for frequencies and repetitions; the run's scan reads all of it.
_COUNTED_TOKENS = 5_000_000

_BORDER = re.compile(r"(?<=[,;:]) +|(?<=[.!?]) +(?=[\"“(]?[A-Z0-9])")


@dataclass(frozen=True)
class _Cut:
    """A document's text on both sides of a border."""

    document: str
    context: str
    ending: str
    key: str
    """Hash over the document and the ending, 16 hexadecimal digits."""


def cloze(manifest: Manifest, root: Path) -> Benchmark:
    """Return up to 400 items, one per held-out document of prose, in the order of their hashes.

    Raises `UsageError` if the prepared folder holds no prose or too little of it,
    `CorruptShardError` for damaged files.
    """
    tokenizer = load_tokenizer()
    items: list[ChoiceItem] = []
    for name, source in manifest.sources.items():
        if source.domain not in NOT_PROSE:
            items += _items(manifest, root, source=name, tokenizer=tokenizer)
    if not items:
        raise UsageError(
            f"{root} holds too few held-out paragraphs of prose for the task cloze; take it out of "
            "evaluation.skills, or prepare more text"
        )
    items.sort(key=lambda item: _hash(item.id))
    return Benchmark(TASK, tuple(items[:ITEMS]), shots=(), origin=_origin(manifest))


def _origin(manifest: Manifest) -> str:
    used = [
        f"{name} ({source.version})"
        for name, source in manifest.sources.items()
        if source.domain not in NOT_PROSE
    ]
    return f"held-out text of {', '.join(used)}"


def _items(
    manifest: Manifest, root: Path, *, source: str, tokenizer: Tokenizer
) -> Iterator[ChoiceItem]:
    """Yield the items of one source: of each document the first cut that finds three others."""
    nats = _word_nats(open_stream(manifest, root, source=source, split="train"))
    by_cost: dict[int, list[_Cut]] = defaultdict(list)
    cuts = list(_cuts(manifest, root, source=source, tokenizer=tokenizer))
    seen = _in_training_text(cuts, manifest, root=root, source=source)
    cuts = [cut for number, cut in enumerate(cuts) if number not in seen]
    costs = [int(nats[tokenizer.encode(f" {cut.ending}")].sum() / _NATS_APART) for cut in cuts]
    for cut, cost in zip(cuts, costs, strict=True):
        by_cost[cost].append(cut)
    done: set[str] = set()
    for cut, cost in zip(cuts, costs, strict=True):
        others = _others(cut, by_cost[cost])
        if cut.document in done or len(others) < 3:
            continue
        done.add(cut.document)
        id = f"{source}/{cut.key}"
        choices = sorted([cut.ending, *others], key=lambda ending: _hash(f"{id}/{ending}"))
        yield ChoiceItem(
            id, cut.context, tuple(choices), choices.index(cut.ending), cluster=cut.document
        )


def _others(cut: _Cut, alike: Sequence[_Cut]) -> list[str]:
    """Return three endings of three other documents, or fewer where there are none.

    They are those with the lowest hashes: another one may push one of them out, and no more.
    """
    endings: dict[str, str] = {}
    taken = {cut.ending}
    for other in sorted(alike, key=lambda other: _hash(f"{cut.key}/{other.key}")):
        is_new = other.document not in endings and other.ending not in taken
        if other.document != cut.document and is_new:
            endings[other.document] = other.ending
            taken.add(other.ending)
        if len(endings) == 3:
            break
    return list(endings.values())


def _cuts(manifest: Manifest, root: Path, *, source: str, tokenizer: Tokenizer) -> Iterator[_Cut]:
    """Yield up to four cuts of each held-out document, the documents in the order of their hash."""
    stream = open_stream(manifest, root, source=source, split="validation")
    documents = sorted(
        (document.sha256, document.id, position, document.tokens)
        for position, document in read_documents(manifest, root, source=source, split="validation")
    )
    for sha256, id, position, tokens in documents[:_MOST_DOCUMENTS]:
        ids = stream.read(position + 1, min(tokens - 1, _MOST_TOKENS))
        found = [
            _Cut(id, context, ending, _hash(f"{sha256}/{ending}")[:16])
            for context, ending in continuations(tokenizer.decode(ids.tolist()))
        ]
        found.sort(key=lambda cut: cut.key)
        yield from found[:_PER_DOCUMENT]


def continuations(text: str) -> Iterator[tuple[str, str]]:
    """Yield (context, ending) for every border of a sentence or clause with enough on both sides.

    One space stood between them. An ending goes to the first border that makes it long enough, and
    there is none across a line end.
    """
    shortest, longest = ENDING
    begin = 0
    for line in text.split("\n"):
        borders = [(match.start(), match.end()) for match in _BORDER.finditer(line)]
        ends = [start for start, _ in borders] + [len(line)]
        for start, end in borders:
            context = text[: begin + start]
            ending = next((line[end:stop] for stop in ends if stop - end >= shortest), "")
            if len(context) >= CONTEXT[0] and shortest <= len(ending) <= longest:
                yield _last_words(context), ending
        begin += len(line) + 1


def _last_words(context: str) -> str:
    """Return the end of a context, from the beginning of a word on."""
    if len(context) <= CONTEXT[1]:
        return context
    return context[-CONTEXT[1] :].partition(" ")[2]


def _in_training_text(
    cuts: Sequence[_Cut], manifest: Manifest, *, root: Path, source: str
) -> set[int]:
    """Return the indices of cuts that stand in the source's own training text."""
    wanted = [
        Wanted(TASK, cut.key, tuple(split_words(cut.context)), tuple(split_words(cut.ending)))
        for cut in cuts
    ]
    tokens = min(manifest.source(source).train.tokens, _COUNTED_TOKENS)
    scanned = scan_stretch(Stretch(source, 0, tokens), manifest, root=root, judge=Judge(wanted))
    return {held.item for held in scanned.held}


def _word_nats(stream: TokenStream) -> npt.NDArray[np.float64]:
    """Return -ln of each token's share of the training text, shape (vocab_size,)."""
    tokens = stream.read(0, min(len(stream), _COUNTED_TOKENS))
    counts = np.bincount(tokens, minlength=VOCAB_SIZE) + 1.0
    return np.asarray(-np.log(counts / counts.sum()))


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
