"""One source on its way: documents -> clean -> dedup -> side -> token ids -> shards.

The one idea: documents stream through in batches of about a megabyte of text, so memory does not
grow with the source, only the table of seen texts does. Which sources there are, and the folder as
a whole, are the business of `yxanul.data.prepare`.
"""

from __future__ import annotations

import hashlib
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from yxanul.data.bookmark import Bookmark
from yxanul.data.clean import clean, reason_to_drop
from yxanul.data.dedup import SeenTexts
from yxanul.data.document import Document
from yxanul.data.documents import DocumentRecord, written_digests
from yxanul.data.manifest import SPLITS, SourceRecord
from yxanul.data.sides import Side
from yxanul.data.split import is_validation
from yxanul.data.tokenizer import Tokenizer
from yxanul.data.unfinished import Unfinished, save_unfinished
from yxanul.errors import UsageError, YxanulError
from yxanul.units import format_count

_BATCH_CHARACTERS = 1 << 20
_PROGRESS_S = 2.0
# A killed start loses at most this much reading; keeping costs two syncs.
KEEP_S = 30.0


class DocumentSource(Protocol):
    """What a source must offer; `yxanul.data.sources` has the real ones."""

    @property
    def domain(self) -> str:
        """The domain whose held-out text this source is scored in."""
        ...

    @property
    def licence(self) -> str | None:
        """Licence of the text; None = not stated."""
        ...

    @property
    def attribution(self) -> str | None:
        """Whom to name; None = nobody."""
        ...

    @property
    def version(self) -> str:
        """Package, release or revision that the text comes from."""
        ...

    @property
    def documents(self) -> Callable[[], Iterator[Document]]:
        """Start the documents from the beginning, in the same order every time."""
        ...


@dataclass(frozen=True, slots=True)
class PlannedSource:
    """A source with what its stage asks of it.

    `validation_fraction` is the share held out (0 to 1); a document of fewer than `min_tokens`
    tokens is dropped (None = none is); `open` opens the source without reading documents.
    """

    name: str
    stage: str
    kind: str
    validation_fraction: float
    open: Callable[[], DocumentSource]
    min_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class Workbench:
    """What all sources of one prepared folder share; `seen` makes dedup reach across them.

    What is done of a source with a bookmark is kept every `keep_s` seconds.
    """

    out: Path
    tokenizer: Tokenizer
    shard_tokens: int
    progress: Callable[[str], None]
    seen: SeenTexts
    keep_s: float = KEEP_S


@dataclass(frozen=True, slots=True)
class Job:
    """A source to write: its plan, the opened source, and what its bytes depend on.

    `settings` is the hash of its stage's settings, `identity` the one of everything; `begun` is
    what an earlier start left (None = nothing).
    """

    plan: PlannedSource
    source: DocumentSource
    settings: str
    identity: str
    begun: Unfinished | None = None


class Pace:
    """Lets a line of news through about every two seconds, so that one can ask for it often."""

    def __init__(self, progress: Callable[[str], None]) -> None:
        self._progress = progress
        self._due = time.monotonic() + _PROGRESS_S

    def tell(self, line: Callable[[], str]) -> None:
        """Pass `line()` on if it is time; whatever `progress` raises goes through."""
        if time.monotonic() >= self._due:
            self._progress(line())
            self._due = time.monotonic() + _PROGRESS_S


@dataclass(frozen=True, slots=True)
class _Text:
    document: Document
    text: str
    digest: bytes


def write_source(job: Job, *, bench: Workbench) -> SourceRecord:
    """Write the shards of one source, from where an earlier start left off; return its record.

    Raises `UsageError` if a side of the split is empty, `DiskError` if the disk is full.
    """
    plan, source, begun = job.plan, job.source, job.begun
    if begun is not None and begun.finished is not None:
        bench.progress(f"{plan.name}: read by an earlier start")
        return begun.finished
    dropped: Counter[str] = Counter(begun.dropped if begun else {})
    with ExitStack() as stack:
        sides = _open_sides(job, bench, stack=stack)
        bench.progress(_counts(plan.name, sides, verb="goes on after" if begun else None))
        keeper = _Keeper(job, bench, sides=sides, dropped=dropped)
        documents = _paced(_reading(job), plan.name, sides=sides, progress=bench.progress)
        batches = _Batches(_admitted(documents, bench.seen, dropped=dropped))
        for batch in batches:
            _write_batch(batch, plan, bench=bench, sides=sides, dropped=dropped)
            keeper.keep_if_due()
        if batches.error is not None:
            keeper.keep()
            raise batches.error
        # A source may drop documents itself and count them in an attribute `dropped`.
        own: Mapping[str, int] = getattr(source, "dropped", None) or {}
        dropped.update(own)
        _refuse_empty_side(plan, sides, dropped=dropped)
        train, validation = (sides[name].finish() for name in SPLITS)
    bench.progress(f"{_counts(plan.name, sides)}; {validation.documents:,} documents held out")
    record = SourceRecord(
        stage=plan.stage,
        domain=source.domain,
        licence=source.licence,
        attribution=source.attribution,
        version=source.version,
        kind=plan.kind,
        train=train,
        validation=validation,
        dropped={reason: dropped[reason] for reason in sorted(dropped) if dropped[reason]},
    )
    keeper.keep(record)
    return record


def _open_sides(job: Job, bench: Workbench, *, stack: ExitStack) -> dict[str, Side]:
    states = job.begun.sides if job.begun else {}
    folder, shard_tokens = bench.out / job.plan.name, bench.shard_tokens
    return {
        name: Side(folder, name, shard_tokens=shard_tokens, state=states.get(name), stack=stack)
        for name in SPLITS
    }


def remember(record: Unfinished, folder: Path, *, seen: SeenTexts) -> None:
    """Put the texts that an earlier start wrote of a source into the dedup table."""
    for split in SPLITS:
        if record.finished is not None:
            size = record.finished.split(split).index.bytes
        else:
            size = record.sides[split].index_bytes
        for digest in written_digests(folder, split, size=size):
            seen.add(digest)


def _reading(job: Job) -> Iterator[Document]:
    bookmark = _bookmark(job.source)
    if job.begun is None or bookmark is None:
        return job.source.documents()
    return bookmark.resume(job.begun.mark)


def _bookmark(source: DocumentSource) -> Bookmark | None:
    """Return the attribute `bookmark` that a source may have."""
    return getattr(source, "bookmark", None)


class _Keeper:
    """Keeps what is done of a source with a bookmark, between two batches."""

    def __init__(
        self,
        job: Job,
        bench: Workbench,
        *,
        sides: Mapping[str, Side],
        dropped: Mapping[str, int],
    ) -> None:
        self._job = job
        self._bench = bench
        self._sides = sides
        self._dropped = dropped
        self._bookmark = _bookmark(job.source)
        self._due = time.monotonic() + bench.keep_s

    def keep_if_due(self) -> None:
        """Keep the state after the batch that was just written, if it is time."""
        if time.monotonic() >= self._due:
            self.keep()
            self._due = time.monotonic() + self._bench.keep_s

    def keep(self, finished: SourceRecord | None = None) -> None:
        """Sync the files and write down how far they go; nothing written is nothing to keep."""
        if self._bookmark is None or not any(side.documents for side in self._sides.values()):
            return
        sides = {} if finished else {name: side.sync() for name, side in self._sides.items()}
        state = Unfinished(
            settings=self._job.settings,
            version=self._job.source.version,
            identity=self._job.identity,
            finished=finished,
            mark=self._bookmark.mark(),
            dropped=dict(self._dropped),
            sides=sides,
        )
        save_unfinished(state, self._bench.out / self._job.plan.name)


def _counts(name: str, sides: Mapping[str, Side], *, verb: str | None = None) -> str:
    documents = sum(side.documents for side in sides.values())
    tokens = sum(side.tokens for side in sides.values())
    if not documents:
        return f"{name}: reading documents"
    start = f"{name}: {verb}" if verb else f"{name}:"
    return f"{start} {documents:,} documents, {format_count(tokens)} tokens"


def _paced(
    documents: Iterable[Document],
    name: str,
    *,
    sides: Mapping[str, Side],
    progress: Callable[[str], None],
) -> Iterator[Document]:
    """Pass the documents on, and news of what is written of them, also when all are dropped."""
    pace = Pace(progress)
    for document in documents:
        yield document
        # Not before: whoever stops the work here must not lose a document that was read.
        pace.tell(lambda: _counts(name, sides))


def _admitted(
    documents: Iterable[Document], seen: SeenTexts, *, dropped: Counter[str]
) -> Iterator[_Text]:
    """Yield cleaned documents that are usable and not written yet; count the others."""
    for document in documents:
        text = clean(document.text)
        reason = reason_to_drop(text)
        digest = hashlib.sha256(text.encode()).digest()
        if reason is None and digest in seen:
            reason = "duplicate"
        if reason is None:
            yield _Text(document, text, digest)
        else:
            dropped[reason] += 1


class _Batches:
    """Texts in batches of about a megabyte; an error of the source ends them, after the last text.

    So what was read before the error is written, and the source's mark is exact.
    """

    def __init__(self, items: Iterable[_Text]) -> None:
        self._items = items
        self.error: YxanulError | None = None

    def __iter__(self) -> Iterator[list[_Text]]:
        batch: list[_Text] = []
        characters = 0
        try:
            for item in self._items:
                batch.append(item)
                characters += len(item.text)
                if characters >= _BATCH_CHARACTERS:
                    yield batch
                    batch, characters = [], 0
        except YxanulError as error:
            self.error = error
        if batch:
            yield batch


def _write_batch(
    batch: list[_Text],
    plan: PlannedSource,
    *,
    bench: Workbench,
    sides: Mapping[str, Side],
    dropped: Counter[str],
) -> None:
    tokenizer = bench.tokenizer
    for item, ids in zip(batch, tokenizer.encode_batch([i.text for i in batch]), strict=True):
        if plan.min_tokens is not None and len(ids) < plan.min_tokens:
            dropped["too_short"] += 1
            continue
        # Only written texts are remembered: those alone are known when a stage is added later.
        if not bench.seen.add(item.digest):
            dropped["duplicate"] += 1
            continue
        held_out = is_validation(
            item.digest.hex(),
            split_key=item.document.split_key,
            fraction=plan.validation_fraction,
        )
        sides["validation" if held_out else "train"].append(
            DocumentRecord(
                item.document.id,
                item.document.url,
                len(ids) + 1,
                len(item.text.encode()),
                item.digest.hex(),
            ),
            [tokenizer.eot, *ids],
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
