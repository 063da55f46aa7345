"""Which chunk a stage reads at which place: a pure function of (seed, stage, attempt).

The one idea: the whole order is computed at once into two small arrays (6 bytes per chunk, a few
seconds for 7 million), from nothing but names, counts and weights. So it needs no state to resume,
is the same for every number of ranks and every sequence length, and can be compared by a hash.

* How many chunks come from a source is exact: weights and replay share times the number of
  chunks, rounded by largest remainder.
* Where they stand: the j-th of a source's c chunks stands at (j + u) / c of the stage, u in [0, 1)
  from a hash. Every source is spread over the whole stage, so each stretch of it follows the
  mixture closely; a plain shuffle would leave short runs to chance.
  A stage may begin with replay alone and come to its mixture in a straight line.
* Which chunk it is: each epoch of a source is its own permutation, so every chunk is read once
  before any is read again.

numpy's Generator is not used: its streams may change between versions. Hashes are splitmix64
(Steele, Lea and Flood 2014, doi 10.1145/2660193.2660195), a bijection of 64 bits, keyed by sha256.
A longer stage has another order, not the same one continued. Files are not known here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from yxanul.errors import UsageError

_GOLDEN = 0x9E3779B97F4A7C15
_MASK = 2**64 - 1
_UINT64 = npt.NDArray[np.uint64]


@dataclass(frozen=True, slots=True)
class OrderKey:
    """What the order depends on besides counts; `attempt` grows with every rollback."""

    seed: int
    stage: str
    attempt: int = 0

    def hash64(self, *names: object) -> int:
        """Return a 64-bit key for one purpose within this order."""
        text = "/".join(str(part) for part in (self.seed, self.stage, self.attempt, *names))
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little")


@dataclass(frozen=True, slots=True)
class OrderSource:
    """A source as the order sees it: `chunks` it holds, `weight` relative to its group."""

    name: str
    chunks: int
    weight: float


@dataclass(frozen=True, slots=True)
class StageOrder:
    """Sample i of the stage is chunk `chunk_index[i]` of `sources[source_index[i]]`.

    Both arrays have shape (n_chunks,): uint16 and uint32.
    """

    sources: tuple[str, ...]
    source_index: npt.NDArray[np.uint16]
    chunk_index: npt.NDArray[np.uint32]

    def __len__(self) -> int:
        return len(self.source_index)

    def part(self, begin: int, end: int) -> StageOrder:
        """Return the samples from number `begin` up to `end`, or to where the order ends."""
        span = slice(begin, end)
        return StageOrder(self.sources, self.source_index[span], self.chunk_index[span])

    def followed_by(self, other: StageOrder) -> StageOrder:
        """Return these samples, and after them those of another order of the same sources."""
        return StageOrder(
            self.sources,
            np.concatenate((self.source_index, other.source_index)),
            np.concatenate((self.chunk_index, other.chunk_index)),
        )

    def without(self, other: StageOrder, *, chunks: Mapping[str, int]) -> StageOrder:
        """Return this order with other text where it would read what `other` reads.

        A chunk of `other` becomes the next one of its source that is none, of `chunks` that the
        source holds. A source that `other` reads whole stays as it is.
        """
        index = self.chunk_index.copy()
        for number, name in enumerate(self.sources):
            if name not in other.sources:
                continue
            left_out = other.chunk_index[other.source_index == other.sources.index(name)]
            allowed = np.setdiff1d(np.arange(chunks[name], dtype=np.uint32), left_out)
            if len(allowed):
                mine = self.source_index == number
                index[mine] = allowed[np.searchsorted(allowed, index[mine]) % len(allowed)]
        return StageOrder(self.sources, self.source_index, index)

    def sha256(self) -> str:
        """Return a hash of the whole order, for comparison between ranks and runs."""
        digest = hashlib.sha256("/".join(self.sources).encode())
        digest.update(self.source_index.astype("<u2").tobytes())
        digest.update(self.chunk_index.astype("<u4").tobytes())
        return digest.hexdigest()


def stage_order(
    key: OrderKey,
    n_chunks: int,
    *,
    own: Sequence[OrderSource],
    replay: Sequence[OrderSource] = (),
    replay_share: float = 0.0,
    ramp_fraction: float = 0.0,
) -> StageOrder:
    """Return the order of a stage of `n_chunks` samples.

    `replay_share` (0 to 1) of them come from `replay`, the earlier stages' sources; without any
    the stage reads only its `own`. Over the first `ramp_fraction` of the stage (at most twice
    `replay_share`) the replayed part falls in a straight line from all to what it is from there on.
    Raises `UsageError` for a source without a chunk.
    """
    sources = (*own, *replay)
    _check(sources)
    counts = mixture_counts(n_chunks, own=own, replay=replay, replay_share=replay_share)
    labels = np.repeat(np.arange(len(sources), dtype=np.uint16), counts)
    places = [
        _places(count, key.hash64("places", source.name))
        for source, count in zip(sources, counts, strict=True)
    ]
    if replay and ramp_fraction:
        ramp = _Ramp(ramp_fraction, replayed=replay_share)
        places = [
            ramp.own(found) if number < len(own) else ramp.replay(found)
            for number, found in enumerate(places)
        ]
    source_index = labels[np.argsort(np.concatenate(places), kind="stable")]
    chunk_index = np.empty(n_chunks, dtype=np.uint32)
    for number, source in enumerate(sources):
        chunk_index[source_index == number] = _chunks(source, counts[number], key=key)
    return StageOrder(tuple(source.name for source in sources), source_index, chunk_index)


def mixture_counts(
    n_chunks: int,
    *,
    own: Sequence[OrderSource],
    replay: Sequence[OrderSource],
    replay_share: float,
) -> list[int]:
    """Return the chunks per source, own ones first; each is within 1 of its exact share.

    Largest remainder in exact fractions; of equal remainders the earlier source wins.
    """
    share = Fraction(replay_share) if replay else Fraction(0)
    exact = [n_chunks * (1 - share) * part for part in _shares(own)]
    exact += [n_chunks * share * part for part in _shares(replay)]
    counts = [int(quota) for quota in exact]
    by_remainder = sorted(range(len(exact)), key=lambda i: counts[i] - exact[i])
    for i in by_remainder[: n_chunks - sum(counts)]:
        counts[i] += 1
    return counts


def splitmix64(key: int, n: int) -> _UINT64:
    """Return the first `n` outputs of the splitmix64 generator that starts at `key`.

    All different, since the step is odd and the output function is a bijection.
    """
    # uint64 arithmetic on arrays wraps around without a warning, as the algorithm wants.
    z: _UINT64 = np.arange(1, n + 1, dtype=np.uint64)
    z = z * np.uint64(_GOLDEN) + np.uint64(key & _MASK)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    z ^= z >> np.uint64(31)
    return z


def permutation(n: int, key: int) -> npt.NDArray[np.int64]:
    """Return a permutation of 0 .. n - 1 that depends on `key` only."""
    return np.argsort(splitmix64(key, n), kind="stable")


def _check(sources: Sequence[OrderSource]) -> None:
    if not sources:
        raise UsageError("A stage without sources has no data; name one in its data section.")
    for source in sources:
        if source.chunks < 1:
            raise UsageError(
                f"The source {source.name} is smaller than one chunk, so nothing can be read from "
                "it; lower data.chunk_tokens or give the source more documents."
            )


def _shares(sources: Sequence[OrderSource]) -> list[Fraction]:
    weights = [Fraction(source.weight) for source in sources]
    return [weight / sum(weights) for weight in weights]


def _places(count: int, key: int) -> npt.NDArray[np.float64]:
    """Return where a source's chunks stand in the stage, in [0, 1], ascending."""
    bits = splitmix64(key, count)
    bits >>= np.uint64(11)
    jitter = bits.astype(np.float64) * 2.0**-53
    return (np.arange(count, dtype=np.float64) + jitter) / max(count, 1)


def after_ramp(fraction: float, *, replayed: float) -> float:
    """Return the replayed part of a stage behind its ramp, where that of the whole is `replayed`.

    The ramp falls in a straight line from 1, over the first `fraction` of the stage.
    """
    return (replayed - fraction / 2) / (1 - fraction / 2)


class _Ramp:
    """Moves places so that a stage begins with replay alone and comes to its mixture in a line.

    At each moment t in [0, 1] the replayed part is 1 - (1 - b) t / f before f, and b after it; b is
    such that the parts over the whole stage stay what they are. A place is a share of a source's
    chunks, and becomes the moment by which so many of its group are read.
    """

    def __init__(self, fraction: float, *, replayed: float) -> None:
        self._fraction = fraction
        self._replayed = replayed
        self._after = after_ramp(fraction, replayed=replayed)

    def replay(self, places: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Return the moments of a replayed source, ascending."""
        f, b = self._fraction, self._after
        read = places * self._replayed
        during = f * (1 + b) / 2
        early = f * (1 - np.sqrt(np.maximum(0.0, 1 - 2 * (1 - b) * read / f))) / (1 - b)
        late = f + (read - during) / b if b > 0 else np.full_like(read, f)
        return np.where(read < during, early, late)

    def own(self, places: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Return the moments of one of the stage's own sources, ascending."""
        f, b = self._fraction, 1 - self._after
        read = places * (1 - self._replayed)
        during = f * b / 2
        return np.where(read < during, np.sqrt(2 * f * read / b), f + (read - during) / b)


def _chunks(source: OrderSource, count: int, *, key: OrderKey) -> npt.NDArray[np.uint32]:
    """Return the chunks that a source gives one after another: whole epochs, then a part of one."""
    result = np.empty(count, dtype=np.uint32)
    for epoch, start in enumerate(range(0, count, source.chunks)):
        stop = min(start + source.chunks, count)
        order = permutation(source.chunks, key.hash64(source.name, epoch))
        result[start:stop] = order[: stop - start]
    return result
