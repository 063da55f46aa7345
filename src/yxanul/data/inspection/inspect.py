"""Describe a prepared folder: what is in it, where it came from, and whether it is whole.

The one idea: `inspect_folder` returns plain data (for --json), `render` makes it readable; both
only read. Names and sizes of files are always compared with the manifest, contents on request.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from yxanul.data.inspection.explain import Explanation, explain, one_line, render_explanations
from yxanul.data.inspection.overlap import (
    HELD_OUT_TOKENS,
    NEARLY_WHOLE,
    RUN_TOKENS,
    Overlap,
    held_out_overlap,
)
from yxanul.data.packing.chunks import document_lengths
from yxanul.data.packing.shares import PackingShare, packing_shares
from yxanul.data.prepared.documents import read_documents
from yxanul.data.prepared.manifest import Manifest, SplitRecord, StageRecord, load_manifest
from yxanul.data.prepared.shards import open_stream
from yxanul.data.prepared.verify import check_files, verify
from yxanul.data.progress import Pace, paced, unheard
from yxanul.data.tokenizer import Tokenizer, load_tokenizer
from yxanul.errors import UsageError

_SAMPLE_TOKENS = 60
_CONTEXT_TOKENS = 20
_STATED_CHARACTERS = 200


@dataclass(frozen=True, slots=True)
class SplitView:
    """Counts of one side of a source; `bytes` are UTF-8 of the texts."""

    documents: int
    tokens: int
    bytes: int
    shards: int


@dataclass(frozen=True, slots=True)
class SourceView:
    """A source as `inspect` shows it; `sample` is the beginning of its first training document."""

    name: str
    stage: str
    domain: str
    kind: str
    licence: str | None
    attribution: str | None
    version: str
    train: SplitView
    validation: SplitView
    dropped: dict[str, int]
    sample_id: str
    sample: str


@dataclass(frozen=True, slots=True)
class TokenPlace:
    """Where a token of a source's training stream comes from.

    `offset` counts tokens within the document (0 is its 50256), `context` is the text around it.
    """

    source: str
    position: int
    token: int
    document_id: str
    url: str | None
    offset: int
    context: str


@dataclass(frozen=True, slots=True)
class Inspection:
    """A prepared folder; `verified` tells whether every byte was compared with the manifest."""

    folder: str
    verified: bool
    stages: dict[str, StageRecord]
    sources: tuple[SourceView, ...]
    token: tuple[TokenPlace, ...]
    dropped: tuple[Explanation, ...]
    packing: tuple[PackingShare, ...]
    overlap: tuple[Overlap, ...]

    def to_json(self) -> dict[str, object]:
        """Return the same as plain dictionaries and lists."""
        return dataclasses.asdict(self)


@dataclass(frozen=True, slots=True)
class Questions:
    """What is asked of a prepared folder, beside what lies in it."""

    verify: bool = False
    """Whether every byte is as the manifest says; else names and sizes are compared."""
    token: int | None = None
    """Which document holds this position, from 0, of each source's training stream."""
    dropped: bool = False
    """What every rule left out, with samples."""
    packing: int | None = None
    """What best-fit packing into chunks of so many tokens does to each source."""
    overlap: bool = False
    """How much held-out text is trained on."""


_NOTHING_MORE = Questions()


def inspect_folder(
    root: Path, asked: Questions = _NOTHING_MORE, *, progress: Callable[[str], None] = unheard
) -> Inspection:
    """Describe the prepared folder `root`, and answer what is asked.

    `progress` gets a line about every two seconds, and may raise to stop the work. Raises
    `UsageError` if `root` is not prepared or no stream is as long as a token is asked for,
    `CorruptShardError` if a file is not as the manifest says.
    """
    manifest = load_manifest(root)
    if asked.verify:
        verify(manifest, root, progress=progress)
    else:
        check_files(manifest, root)
    tokenizer, pace = load_tokenizer(), Pace(progress)
    places: tuple[TokenPlace, ...] = ()
    if asked.token is not None:
        places = tuple(
            locate_token(manifest, root, position=asked.token, tokenizer=tokenizer, pace=pace)
        )
    return Inspection(
        folder=str(root),
        verified=asked.verify,
        stages=dict(manifest.stages),
        sources=tuple(
            _source_view(manifest, root, name=name, tokenizer=tokenizer)
            for name in manifest.sources
        ),
        token=places,
        dropped=tuple(explain(manifest, root, progress=progress)) if asked.dropped else (),
        packing=tuple(_packing(manifest, root, chunk_tokens=asked.packing, pace=pace))
        if asked.packing
        else (),
        overlap=tuple(held_out_overlap(manifest, root, progress=progress)) if asked.overlap else (),
    )


def locate_token(
    manifest: Manifest, root: Path, *, position: int, tokenizer: Tokenizer, pace: Pace
) -> list[TokenPlace]:
    """Return, for each source whose training stream has that position, the document there."""
    longest = max(source.train.tokens for source in manifest.sources.values())
    if not 0 <= position < longest:
        raise UsageError(
            f"No training stream in {root} has a token {position:,}; the longest ends at "
            f"{longest - 1:,}."
        )
    return [
        _locate(manifest, root, name=name, position=position, tokenizer=tokenizer, pace=pace)
        for name, source in manifest.sources.items()
        if position < source.train.tokens
    ]


def _locate(
    manifest: Manifest,
    root: Path,
    *,
    name: str,
    position: int,
    tokenizer: Tokenizer,
    pace: Pace,
) -> TokenPlace:
    stream = open_stream(manifest, root, source=name, split="train")
    written = read_documents(manifest, root, source=name, split="train")
    documents = paced(written, f"documents of {name}", pace=pace)
    start, document = next(
        (start, item) for start, item in documents if position < start + item.tokens
    )
    first = max(start, position - _CONTEXT_TOKENS)
    last = min(start + document.tokens, position + _CONTEXT_TOKENS + 1)
    return TokenPlace(
        source=name,
        position=position,
        token=int(stream.read(position, 1)[0]),
        document_id=document.id,
        url=document.url,
        offset=position - start,
        context=tokenizer.decode(stream.read(first, last - first).tolist()),
    )


def _packing(
    manifest: Manifest, root: Path, *, chunk_tokens: int, pace: Pace
) -> Iterator[PackingShare]:
    for name in manifest.sources:
        lengths = document_lengths(manifest, root, source=name, pace=pace)
        yield from packing_shares(name, lengths, chunk_tokens=chunk_tokens, pace=pace)


def _source_view(manifest: Manifest, root: Path, *, name: str, tokenizer: Tokenizer) -> SourceView:
    source = manifest.source(name)
    sample_id, sample = _sample(manifest, root, name=name, tokenizer=tokenizer)
    return SourceView(
        name=name,
        stage=source.stage,
        domain=source.domain,
        kind=source.kind,
        licence=source.licence,
        attribution=source.attribution,
        version=source.version,
        train=_split_view(source.train),
        validation=_split_view(source.validation),
        dropped=dict(source.dropped),
        sample_id=sample_id,
        sample=sample,
    )


def _split_view(split: SplitRecord) -> SplitView:
    return SplitView(split.documents, split.tokens, split.bytes, len(split.files))


def _sample(manifest: Manifest, root: Path, *, name: str, tokenizer: Tokenizer) -> tuple[str, str]:
    first = next(read_documents(manifest, root, source=name, split="train"), None)
    if first is None:
        return "", ""
    count = min(first[1].tokens, _SAMPLE_TOKENS)
    tokens = open_stream(manifest, root, source=name, split="train").read(0, count)
    return first[1].id, tokenizer.decode(tokens[1:].tolist())


def render(inspection: Inspection) -> str:
    """Return the description as text for a terminal."""
    state = "every byte verified" if inspection.verified else "names and sizes checked"
    lines = [
        f"{inspection.folder}: {len(inspection.sources)} source"
        f"{'' if len(inspection.sources) == 1 else 's'}, "
        f"{sum(s.train.tokens for s in inspection.sources):,} training tokens, "
        f"{sum(s.validation.tokens for s in inspection.sources):,} held out; {state}",
        *(
            one_line(
                f"{name}: prepared by yxanul {stage.code_version}, Python {stage.python_version}, "
                f"settings {stage.settings_sha256[:12]}"
            )
            for name, stage in inspection.stages.items()
        ),
    ]
    for source in inspection.sources:
        lines += ["", *_source_lines(source)]
    for place in inspection.token:
        lines += ["", *_token_lines(place)]
    if inspection.packing:
        lines += ["", *_packing_lines(inspection.packing)]
    if inspection.overlap:
        lines += ["", *_overlap_lines(inspection.overlap)]
    if inspection.dropped:
        lines += ["", render_explanations(list(inspection.dropped))]
    return "\n".join(lines)


def _source_lines(source: SourceView) -> list[str]:
    dropped = ", ".join(f"{count:,} {reason}" for reason, count in source.dropped.items())
    return [
        one_line(f"{source.name} ({source.stage}, domain {source.domain}, {source.kind})"),
        f"  text        {_shortened(source.licence or 'licence not stated')}; "
        f"{_shortened(source.attribution or 'no attribution stated')}; {one_line(source.version)}",
        *(
            f"  {label:<11} {view.documents:,} documents, {view.tokens:,} tokens, "
            f"{view.bytes:,} bytes, {view.shards} shard{'s' * (view.shards != 1)}"
            for label, view in (("train", source.train), ("validation", source.validation))
        ),
        f"  dropped     {one_line(dropped) or 'nothing'}",
        f"  sample      {one_line(source.sample_id)}: {one_line(source.sample)}",
    ]


def _shortened(stated: str) -> str:
    """Return what a source says of itself on a line; some state a whole licence."""
    line = one_line(stated)
    return line if len(line) <= _STATED_CHARACTERS else f"{line[:_STATED_CHARACTERS]}..."


def _packing_lines(shares: Sequence[PackingShare]) -> Iterator[str]:
    """Yield a table, one line for every source and length of a row."""
    widest = max(len(one.source) for one in shares)
    yield (
        "documents cut, by data.packing (longer than a row: cut in any case); padding with best_fit"
    )
    heads = f"{'row':>7} {'longer':>8} {'stream':>8} {'best_fit':>9} {'padding':>8}"
    yield f"  {'source':<{widest}} {heads}"
    for one in shares:
        yield (
            f"  {one.source:<{widest}} {one.seq_len:>7,} {one.longer:>8.1%} "
            f"{one.cut_in_stream:>8.1%} {one.cut_packed:>9.1%} {one.padding:>8.2%}"
        )


def _overlap_lines(found: Sequence[Overlap]) -> Iterator[str]:
    yield (
        f"held-out text that stands in training text as well, in runs of {RUN_TOKENS} tokens "
        f"(of the first {HELD_OUT_TOKENS:,} held-out tokens of each source)"
    )
    for one in found:
        yield (
            f"  {one.source}: {one.runs:.1%} of the runs of {one.documents:,} documents; "
            f"{one.nearly_whole:,} documents are found to {NEARLY_WHOLE:.0%} or more"
        )
        for shared in one.most:
            yield (
                f"    {shared.share:>6.1%} of {one_line(shared.document_id)}, e.g. in "
                f"{one_line(shared.training_id)} of {shared.training_source}"
            )


def _token_lines(place: TokenPlace) -> list[str]:
    return [
        f"token {place.position:,} of {place.source} is {place.token}, number {place.offset:,} of "
        f"document {one_line(place.document_id)} ({one_line(place.url or 'no address')})",
        f"  around it   {one_line(place.context)}",
    ]
