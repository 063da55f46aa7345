"""How much of the held-out text stands in the training text as well, word for word.

Equal texts and, on request, near duplicates are dropped while preparing; a passage that two
documents share is not. It makes a score on held-out text look better than it is, so it is measured:
the share of a held-out document's runs of 13 tokens that occur anywhere in the folder's training
streams. (Runs of 13: arXiv 2005.14165; nearly whole from 80 % on: arXiv 2307.09288.) A run is its
hash of 64 bits, so one in 2**64 / (runs looked for) is found by chance.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from yxanul.data.prepared.documents import DocumentRecord, read_documents
from yxanul.data.prepared.manifest import Manifest
from yxanul.data.prepared.shards import TokenStream, open_stream
from yxanul.data.progress import Pace, paced, unheard
from yxanul.data.tokenizer import EOT

RUN_TOKENS = 13
NEARLY_WHOLE = 0.8
HELD_OUT_TOKENS = 2_000_000
"""Of each source, from its beginning: the runs of all of them are held in memory.

The document that goes beyond is cut.
"""
_BLOCK_TOKENS = 1 << 20
_FILTER_BITS = 24
_EXAMPLES = 3
_FACTOR = np.uint64(0x9E3779B97F4A7C15)

_UINT64 = npt.NDArray[np.uint64]
_INT64 = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Shared:
    """A held-out document, the share of its runs found, and a training document with one."""

    document_id: str
    share: float
    training_source: str
    training_id: str


@dataclass(frozen=True, slots=True)
class Overlap:
    """What of a source's held-out text is found in training text, of any source of the folder."""

    source: str
    documents: int
    """Held-out documents that were looked at; those shorter than a run are not."""
    runs: float
    """The share of all their runs that was found, 0 to 1."""
    nearly_whole: int
    """Documents of which at least 80 % was found."""
    most: tuple[Shared, ...]
    """The documents with the largest shares."""


def held_out_overlap(
    manifest: Manifest, root: Path, *, progress: Callable[[str], None] = unheard
) -> Iterator[Overlap]:
    """Yield the overlap of every source; reads all training tokens once.

    `progress` gets a line about every two seconds, and may raise to stop the work. Raises
    `CorruptShardError` for files that are not as written.
    """
    held = {name: _held_out(manifest, root, source=name) for name in manifest.sources}
    keys = np.unique(np.concatenate([runs.keys for runs in held.values()]))
    pace = Pace(progress)
    seen = _look_for(keys, manifest=manifest, root=root, pace=pace)
    for name, runs in held.items():
        yield _overlap(name, runs, keys=keys, seen=seen, folder=(manifest, root), pace=pace)


@dataclass(frozen=True, slots=True)
class _Runs:
    """Runs of held-out documents: `keys` (runs,) and the number of each one's document."""

    records: list[DocumentRecord]
    keys: _UINT64
    document: _INT64


@dataclass(frozen=True, slots=True)
class _Seen:
    """For each key the number of the source that has it, -1 = none, and the position there."""

    source: npt.NDArray[np.int16]
    position: _INT64


def _held_out(manifest: Manifest, root: Path, *, source: str) -> _Runs:
    stream = open_stream(manifest, root, source=source, split="validation")
    records: list[DocumentRecord] = []
    keys, document = [np.empty(0, np.uint64)], [np.empty(0, np.int64)]
    for start, record in read_documents(manifest, root, source=source, split="validation"):
        left = HELD_OUT_TOKENS - start
        if left < 1:
            break
        found, _ = _hashes(stream.read(start, min(record.tokens, left)))
        if len(found):
            keys.append(found)
            document.append(np.full(len(found), len(records)))
            records.append(record)
    return _Runs(records, np.concatenate(keys), np.concatenate(document))


def _hashes(tokens: npt.NDArray[np.uint16]) -> tuple[_UINT64, _INT64]:
    """Return the runs within documents as hashes, (runs,), and where each begins."""
    count = len(tokens) - RUN_TOKENS + 1
    if count < 1:
        return np.empty(0, np.uint64), np.empty(0, np.int64)
    wide = tokens.astype(np.uint64) + np.uint64(1)
    hashes = np.zeros(count, np.uint64)
    for place in range(RUN_TOKENS):
        # uint64 wraps around; the shift lets high bits reach the low ones, which the filter reads.
        hashes = (hashes ^ wide[place : place + count]) * _FACTOR
        hashes ^= hashes >> np.uint64(29)
    borders = np.concatenate([[0], np.cumsum(tokens == EOT)])
    whole = np.flatnonzero(borders[RUN_TOKENS:] == borders[:-RUN_TOKENS])
    return hashes[whole], whole


def _look_for(keys: _UINT64, *, manifest: Manifest, root: Path, pace: Pace) -> _Seen:
    seen = _Seen(np.full(len(keys), -1, np.int16), np.zeros(len(keys), np.int64))
    mask = np.uint64(2**_FILTER_BITS - 1)
    maybe = np.zeros(2**_FILTER_BITS, np.bool_)
    maybe[keys & mask] = True
    for number, name in enumerate(manifest.sources):
        stream = open_stream(manifest, root, source=name, split="train")
        told = partial("{}: {:,} of {:,} training tokens looked through".format, name)
        for start, hashes, places in _stream_hashes(stream):
            pace.tell(partial(told, start, len(stream)))
            likely = np.flatnonzero(maybe[hashes & mask])
            at = np.searchsorted(keys, hashes[likely])
            at[at == len(keys)] = 0
            hit = keys[at] == hashes[likely] if len(keys) else np.zeros(0, np.bool_)
            new = hit & (seen.source[at] < 0)
            seen.source[at[new]] = number
            seen.position[at[new]] = start + places[likely[new]]
    return seen


def _stream_hashes(stream: TokenStream) -> Iterator[tuple[int, _UINT64, _INT64]]:
    """Yield (position of a block, its runs, their places in it); blocks share what runs need."""
    for start in range(0, len(stream), _BLOCK_TOKENS):
        count = min(_BLOCK_TOKENS + RUN_TOKENS - 1, len(stream) - start)
        yield start, *_hashes(stream.read(start, count))


def _overlap(
    name: str,
    runs: _Runs,
    *,
    keys: _UINT64,
    seen: _Seen,
    folder: tuple[Manifest, Path],
    pace: Pace,
) -> Overlap:
    at = np.searchsorted(keys, runs.keys)
    found = seen.source[at] >= 0
    total = np.bincount(runs.document, minlength=len(runs.records))
    shares = np.bincount(runs.document, weights=found, minlength=len(runs.records)) / total
    most = [n for n in np.argsort(-shares, kind="stable")[:_EXAMPLES].tolist() if shares[n] > 0]
    return Overlap(
        name,
        len(runs.records),
        float(found.mean()) if len(found) else 0.0,
        int(np.count_nonzero(shares >= NEARLY_WHOLE)),
        tuple(
            Shared(
                runs.records[n].id,
                float(shares[n]),
                *_whose(int(at[found & (runs.document == n)][0]), seen, folder=folder, pace=pace),
            )
            for n in most
        ),
    )


def _whose(key: int, seen: _Seen, *, folder: tuple[Manifest, Path], pace: Pace) -> tuple[str, str]:
    """Return the source and the id of the training document that has a key."""
    manifest, root = folder
    source, position = list(manifest.sources)[seen.source[key]], int(seen.position[key])
    written = read_documents(manifest, root, source=source, split="train")
    documents = paced(written, f"documents of {source}", pace=pace)
    return source, next(d.id for start, d in documents if position < start + d.tokens)
