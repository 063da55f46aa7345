"""One source on its way: documents -> treatment -> duplicates -> side -> shards.

The one idea: what depends on a text alone is done in batches on up to 32 cores
(`yxanul.data.treating.treatment`); what depends on the texts before it is done here, in the order
of the source, so the result is the same however many cores there are. Memory does not grow with the
source. Which sources there are is the business of `yxanul.data.preparing.prepare`, the folder as a
whole that of `yxanul.data.preparing.build`.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Generator, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path

from yxanul.data.bookmark import Mark
from yxanul.data.document import Document
from yxanul.data.drop import Drop
from yxanul.data.duplicates.known import KnownTexts
from yxanul.data.duplicates.signatures import written_signatures
from yxanul.data.parts.files import Parts
from yxanul.data.prepared.appended import AppendedFile
from yxanul.data.prepared.documents import DocumentRecord, written_digests
from yxanul.data.prepared.dropped import DroppedList
from yxanul.data.prepared.manifest import SPLITS, SourceRecord, dropped_path
from yxanul.data.prepared.shards import SHARD_TOKENS
from yxanul.data.prepared.unfinished import Unfinished, save_unfinished
from yxanul.data.preparing.reading import DocumentSource, ReadBatch, Reading
from yxanul.data.preparing.sides import Side
from yxanul.data.preparing.split import is_validation
from yxanul.data.progress import Pace, Watcher
from yxanul.data.treating.processes import ALONE_CHARACTERS, treat_in_order
from yxanul.data.treating.treatment import Recipe, Treated, Treatment, plain_recipe
from yxanul.errors import UsageError
from yxanul.units import format_count


@dataclass(frozen=True, slots=True)
class PlannedSource:
    """A source with what its stage asks of it.

    `validation_fraction` is the share held out (0 to 1); `settings` are the source's own, for the
    manifest; `open` opens the source without reading documents, and `recipe` says what is done to
    its texts.
    """

    name: str
    stage: str
    kind: str
    validation_fraction: float
    open: Callable[[], DocumentSource]
    recipe: Callable[[], Recipe] = lambda: plain_recipe(Treatment())
    settings: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Effort:
    """How the work is done; nothing of it but the size of shards changes a byte."""

    shard_tokens: int = SHARD_TOKENS
    keep_s: float = 30.0
    """A killed start loses at most this much of a source with a bookmark; keeping costs syncs."""
    processes: int | None = None
    """Processes that treat the texts; None = as many as cores and memory allow."""
    alone_characters: int = ALONE_CHARACTERS
    """Text that is treated without other processes."""


@dataclass(frozen=True, slots=True)
class Workbench:
    """What all sources of one prepared folder share; the known texts reach across them."""

    out: Path
    progress: Callable[[str], None]
    known: KnownTexts
    effort: Effort
    watcher: Watcher | None = None
    """Who shows how many documents are done; None = lines tell it."""

    def tell_counts(self, line: str) -> None:
        """Pass on how far a source is, unless somebody shows it."""
        if self.watcher is None:
            self.progress(line)

    def done(self, documents: int) -> None:
        """Hear of documents that are written or dropped."""
        if self.watcher is not None:
            self.watcher.advance(documents)


@dataclass(frozen=True, slots=True)
class Job:
    """A source to write: its plan, the opened source, and what its bytes depend on.

    `settings` is the hash of its stage's settings, `identity` the one of everything; `begun` is
    what an earlier start left (None = nothing).
    """

    plan: PlannedSource
    source: DocumentSource
    recipe: Recipe
    settings: str
    identity: str
    begun: Unfinished | None = None


def write_source(job: Job, *, bench: Workbench) -> SourceRecord:
    """Write the shards of one source, from where an earlier start left off; return its record.

    Raises `UsageError` if a side of the split is empty, `DiskError` if the disk is full.
    """
    name, begun = job.plan.name, job.begun
    if begun is not None and begun.finished is not None:
        bench.progress(f"{name}: read by an earlier start")
        return begun.finished
    with ExitStack() as stack:
        work = _SourceWork(job, bench, stack=stack)
        bench.progress(work.counts("goes on after" if begun else None))
        if bench.watcher is not None:
            bench.watcher.begin(name, total=work.left)
        pace = Pace(bench.tell_counts)
        reading = Reading(
            job.source,
            mark=begun.mark if begun else None,
            heard=lambda: pace.tell(work.counts),
        )
        due = time.monotonic() + bench.effort.keep_s
        treated = _treated(job, reading, bench=bench)
        # Closed at once after an error, and with it the processes.
        for batch, texts in stack.enter_context(closing(treated)):
            work.write(batch, texts)
            bench.done(len(texts))
            if time.monotonic() >= due:
                work.keep(batch.mark)
                due = time.monotonic() + bench.effort.keep_s
        if reading.error is not None:
            work.keep(reading.mark)
            raise reading.error
        record = work.finish(reading.dropped)
    bench.progress(f"{work.counts()}; {record.validation.documents:,} documents held out")
    work.keep(reading.mark, finished=record)
    return record


def _treated(
    job: Job, reading: Reading, *, bench: Workbench
) -> Generator[tuple[ReadBatch, list[Treated]], None, None]:
    """Yield the batches of a source, treated here or, for one with parts, by others before."""
    parts: Parts | None = getattr(job.source, "parts", None)
    if parts is not None:
        for documents, texts in parts.read():
            yield ReadBatch(documents, None), texts
            reading.heard()
        return
    effort = bench.effort
    yield from treat_in_order(
        reading.batches(),
        job.recipe.treatment,
        processes=effort.processes,
        alone_characters=effort.alone_characters,
        say=bench.progress,
    )


def remember(name: str, bench: Workbench, *, sizes: Mapping[str, tuple[int, bool]]) -> None:
    """Put the texts that are written of a source into the known ones.

    `sizes` is {split: (bytes of its list of documents, whether it has signatures)}.
    """
    folder = bench.out / name
    pace = Pace(bench.progress)
    for split, (size, _) in sizes.items():
        for digest in written_digests(folder, split, size=size):
            bench.known.add(digest)
            pace.tell(lambda: f"{bench.known.texts:,} texts are prepared already")
    if all(has_signatures for _, has_signatures in sizes.values()):
        digests = {s: written_digests(folder, s, size=size) for s, (size, _) in sizes.items()}
        for signature, digest in written_signatures(folder, digests):
            bench.known.sign(signature, digest)
            pace.tell(lambda: f"{bench.known.signatures:,} signatures are read again")


class _SourceWork:
    """The files of a source while it is written, and the decisions between its texts."""

    def __init__(self, job: Job, bench: Workbench, *, stack: ExitStack) -> None:
        self._job = job
        self._bench = bench
        self._least = job.recipe.treatment.config.near_duplicates
        states = job.begun.sides if job.begun else {}
        self._sides = {
            split: Side(
                bench.out / job.plan.name,
                split,
                shard_tokens=bench.effort.shard_tokens,
                state=states.get(split),
                has_signatures=self._least is not None,
                stack=stack,
            )
            for split in SPLITS
        }
        size = job.begun.dropped_bytes if job.begun else 0
        file = stack.enter_context(AppendedFile(bench.out, dropped_path(job.plan.name), size=size))
        self._dropped = DroppedList(file, counts=job.begun.dropped if job.begun else {})

    @property
    def documents(self) -> int:
        """How many are written."""
        return sum(side.documents for side in self._sides.values())

    @property
    def left(self) -> int | None:
        """How many documents are to come at most; None = the source does not know it."""
        most: int | None = getattr(self._job.source, "most", None)
        seen = self.documents + self._dropped.counts.total()
        return None if most is None else max(0, most - seen)

    def counts(self, verb: str | None = None) -> str:
        """Return a line of news."""
        name, tokens = self._job.plan.name, sum(side.tokens for side in self._sides.values())
        dropped = self._dropped.counts.total()
        if not self.documents and not dropped:
            return f"{name}: reading documents"
        start = f"{name}: {verb}" if verb else f"{name}:"
        told = f"{start} {self.documents:,} documents, {format_count(tokens)} tokens"
        return f"{told}, {dropped:,} dropped" if dropped else told

    def write(self, batch: ReadBatch, texts: list[Treated]) -> None:
        """Write a batch, each text to its side or to the list of dropped ones."""
        for document, text in zip(batch.documents, texts, strict=True):
            drop = text.drop or self._repetition(text)
            if drop is None:
                self._append(document, text)
            else:
                self._dropped.append(document, drop)

    def _repetition(self, text: Treated) -> Drop | None:
        """Return why a text is no news; only written texts are remembered.

        Those alone are known when a stage is added later.
        """
        if text.digest in self._bench.known:
            return Drop("duplicate")
        if text.signature is None or self._least is None:
            return None
        near = self._bench.known.nearest(text.signature, least=self._least)
        if near is None:
            return None
        return Drop(
            "near_duplicate",
            value=round(near.similarity, 4),
            limit=self._least,
            detail=f"of the document with sha256 {near.digest.hex()}...",
        )

    def _append(self, document: Document, text: Treated) -> None:
        self._bench.known.add(text.digest)
        number, sha256 = self.documents, text.digest.hex()
        held_out = is_validation(
            sha256,
            split_key=document.split_key,
            fraction=self._job.plan.validation_fraction,
        )
        side = self._sides["validation" if held_out else "train"]
        tokens = len(text.ids) + 1
        side.append(DocumentRecord(document.id, document.url, tokens, text.bytes, sha256), text.ids)
        if text.signature is not None:
            self._bench.known.sign(text.signature, text.digest)
            side.sign(text.signature, number=number)

    def keep(self, mark: Mark | None, *, finished: SourceRecord | None = None) -> None:
        """Sync the files and write down how far they go; nothing done is nothing to keep.

        Only a source with marks can be gone on with.
        """
        dropped = self._dropped
        if mark is None or not (self.documents or dropped.counts):
            return
        sides = {} if finished else {name: side.sync() for name, side in self._sides.items()}
        state = Unfinished(
            settings=self._job.settings,
            version=self._job.source.version,
            identity=self._job.identity,
            finished=finished,
            mark=mark,
            dropped=dict(dropped.counts),
            dropped_bytes=0 if finished else dropped.sync(),
            sides=sides,
        )
        save_unfinished(state, self._bench.out / self._job.plan.name)

    def finish(self, left_out: Mapping[str, int]) -> SourceRecord:
        """Give the files their names; return the record of the source.

        `left_out` is what the source dropped itself.
        """
        plan, source = self._job.plan, self._job.source
        dropped = self._dropped.counts + Counter(left_out)  # without those of 0 documents
        _refuse_empty_side(plan, self._sides, dropped=dropped)
        train, validation = (self._sides[split].finish() for split in SPLITS)
        return SourceRecord(
            stage=plan.stage,
            domain=source.domain,
            licence=source.licence,
            attribution=source.attribution,
            version=source.version,
            kind=plan.kind,
            settings=dict(plan.settings),
            tools=self._job.recipe.tools,
            decontaminated=self._job.recipe.decontaminated,
            train=train,
            validation=validation,
            dropped={reason: dropped[reason] for reason in sorted(dropped)},
            dropped_list=self._dropped.finish(),
        )


def _refuse_empty_side(
    plan: PlannedSource, sides: Mapping[str, Side], *, dropped: Mapping[str, int]
) -> None:
    train, validation = sides["train"].documents, sides["validation"].documents
    if not train and not validation:
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in dropped.items() if count)
        raise UsageError(
            f"The source {plan.name} of {plan.stage} gave no usable document (dropped: "
            f"{reasons or 'none'}); choose another source or take it out of the stage."
        )
    if not validation:
        raise UsageError(
            f"None of the {train:,} documents of {plan.name} ({plan.stage}) is held out at "
            f"data.validation_fraction {plan.validation_fraction:g}; raise it, or give the source "
            "more documents."
        )
    if not train:
        raise UsageError(
            f"All {validation:,} documents of {plan.name} ({plan.stage}) are held out at "
            f"data.validation_fraction {plan.validation_fraction:g}; lower it, or give the source "
            "more documents."
        )
