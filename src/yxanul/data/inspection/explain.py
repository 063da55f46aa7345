"""Why documents were dropped: each rule with its number of documents, its limit and samples.

The one idea: a rule is judged by what it drops, so beside the counts stand the beginnings of some
of the documents, and of some that were kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from yxanul.data.prepared.documents import DocumentRecord, read_documents
from yxanul.data.prepared.dropped import DroppedDocument, read_dropped
from yxanul.data.prepared.manifest import SPLITS, Manifest
from yxanul.data.prepared.shards import open_stream
from yxanul.data.progress import Pace, paced, unheard
from yxanul.data.tokenizer import load_tokenizer

_SAMPLES = 3
_SAMPLE_TOKENS = 60
_NEAR = "near_duplicate"


@dataclass(frozen=True, slots=True)
class Sample:
    """A document and the beginning of its text; `why` is empty for one that was kept."""

    id: str
    url: str | None
    text: str
    why: str


@dataclass(frozen=True, slots=True)
class DroppedRule:
    """A rule and the documents of a source that broke it.

    `samples` is empty for what the source left out itself, before it was a document.
    """

    rule: str
    documents: int
    samples: tuple[Sample, ...]


@dataclass(frozen=True, slots=True)
class Explanation:
    """What became of a source's documents."""

    source: str
    kept: int
    rules: tuple[DroppedRule, ...]
    kept_samples: tuple[Sample, ...]


def explain(
    manifest: Manifest,
    root: Path,
    *,
    stage: str | None = None,
    samples: int = _SAMPLES,
    progress: Callable[[str], None] = unheard,
) -> list[Explanation]:
    """Return the explanation of each source (of `stage`), the most frequent rule first.

    The lists of all documents are read once at most, however many sources there are; `progress`
    gets a line about every two seconds meanwhile, and may raise to stop the work. Raises
    `CorruptShardError` for files that are not as written.
    """
    sources = [name for name, one in manifest.sources.items() if stage in (None, one.stage)]
    pace = Pace(progress)
    dropped = {
        name: _first_of_rules(
            paced(read_dropped(manifest, root, source=name), "dropped documents", pace=pace),
            samples=samples,
        )
        for name in sources
    }
    near = [document for found in dropped.values() for document in found.get(_NEAR, ())]
    written = (
        document
        for name in manifest.sources
        for split in SPLITS
        for _, document in read_documents(manifest, root, source=name, split=split)
    )
    names = _names_of_near(near, paced(written, "documents", pace=pace))
    return [
        Explanation(
            source=name,
            kept=manifest.source(name).train.documents + manifest.source(name).validation.documents,
            rules=tuple(
                DroppedRule(rule, count, tuple(_sample(one, names) for one in found.get(rule, ())))
                for rule, count in sorted(
                    manifest.source(name).dropped.items(), key=lambda item: -item[1]
                )
            ),
            kept_samples=tuple(islice(_kept(manifest, root, source=name), samples)),
        )
        for name, found in dropped.items()
    ]


def _first_of_rules(
    documents: Iterable[DroppedDocument], *, samples: int
) -> dict[str, list[DroppedDocument]]:
    """Return {rule: its first dropped documents}."""
    found: dict[str, list[DroppedDocument]] = {}
    for document in documents:
        of_rule = found.setdefault(document.drop.rule, [])
        if len(of_rule) < samples:
            of_rule.append(document)
    return found


def _sample(document: DroppedDocument, names: Mapping[str, str]) -> Sample:
    drop = document.drop
    parts = []
    if drop.value is not None:
        limit = "" if drop.limit is None else f", the limit is {drop.limit:g}"
        parts.append(f"{drop.value:.4g}{limit}")
    if drop.detail:
        parts.append(_named(drop.detail, names))
    return Sample(document.id, document.url, document.text or "", "; ".join(parts))


def _named(detail: str, names: Mapping[str, str]) -> str:
    """Return a detail with the name of the document whose sha256 it gives the beginning of."""
    return next((f"{detail} ({name})" for key, name in names.items() if key in detail), detail)


def _names_of_near(
    documents: list[DroppedDocument], written: Iterable[DocumentRecord]
) -> dict[str, str]:
    """Return {beginning of a sha256: document} for those that dropped ones are near to."""
    wanted = {(one.drop.detail or "").rpartition(" ")[2].rstrip(".") for one in documents}
    found: dict[str, str] = {}
    for document in written if wanted else ():
        if document.sha256[:16] in wanted:
            found[document.sha256[:16]] = document.id
            if len(found) == len(wanted):
                break
    return found


def _kept(manifest: Manifest, root: Path, *, source: str) -> Iterator[Sample]:
    stream = open_stream(manifest, root, source=source, split="train")
    tokenizer = load_tokenizer()
    for position, document in read_documents(manifest, root, source=source, split="train"):
        ids = stream.read(position + 1, min(document.tokens - 1, _SAMPLE_TOKENS))
        yield Sample(document.id, document.url, tokenizer.decode(ids.tolist()), "")


def render_explanations(explanations: list[Explanation]) -> str:
    """Return the explanations as text for a terminal."""
    return "\n\n".join("\n".join(_lines(one)) for one in explanations)


def _lines(one: Explanation) -> Iterator[str]:
    dropped = sum(rule.documents for rule in one.rules)
    yield f"{one.source}: {one.kept:,} documents kept, {dropped:,} dropped"
    for rule in one.rules:
        yield f"  {one_line(rule.rule)}: {rule.documents:,}" + (
            "" if rule.samples else " (left out by the source itself, not listed)"
        )
        for sample in rule.samples:
            yield one_line(f"    {sample.id}{f': {sample.why}' if sample.why else ''}")
            yield f"      {one_line(sample.text)}"
    yield "  kept, for comparison:"
    for sample in one.kept_samples:
        yield one_line(f"    {sample.id}")
        yield f"      {one_line(sample.text)}"


def one_line(text: str) -> str:
    """Return the text with line ends and control characters written out: it goes to a terminal."""
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)
