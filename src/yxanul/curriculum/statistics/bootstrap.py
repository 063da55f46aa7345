"""How sure a change is: the paired bootstrap over what is independent, documents or clusters.

The one idea: both models read the same items, and items of one cluster are not independent, so
whole clusters are drawn again and each draw compares the same ones (Efron and Tibshirani 1993;
clustered and paired for language models: Miller, arXiv 2411.00640). The draws are the same for
every comparison of as many clusters, and bounds are quantiles over them. So identical input gives
identical output, and an item that got worse never improves a bound. Draws come from the raw bits of
PCG64, whose stream numpy keeps, unlike its distributions.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

RESAMPLES = 10_000
MDE_FACTOR = 2.8  # 80 % power at a two-sided 5 %, in standard errors
FEWEST_DOCUMENTS = 5
"""Fewer documents or clusters have bounds that nobody can know."""
CONFIDENCE = 0.95
"""One-sided, of the bounds that a check shows."""
_FEWEST_BEYOND = 5
"""Draws that must lie beyond a bound: what is farther out, so few documents cannot tell."""
_SEED = 0x9E3779B9
_INDICES_AT_ONCE = 1 << 22  # 32 MiB

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Change:
    """A change and how sure it is: -0.05 = bits per byte fell by 5 %, or a rate by 5 points."""

    value: float
    documents: int
    """What was drawn: documents, items, or clusters of them."""
    minimal_detectable: float
    """The smallest change that a repetition would find 80 % of the time."""
    draws: Floats | None = field(default=None, repr=False, compare=False)
    """The change in every resample, (resamples,) in order of size; None with too few documents."""

    @property
    def low(self) -> float:
        """One-sided 95 % bound below."""
        return self.low_at(CONFIDENCE)

    @property
    def high(self) -> float:
        """One-sided 95 % bound above."""
        return self.high_at(CONFIDENCE)

    @property
    def is_known(self) -> bool:
        """Whether there are documents enough for bounds."""
        return self.draws is not None

    def low_at(self, confidence: float) -> float:
        """Return the one-sided bound below at a confidence from 0.5 to 1; -inf = cannot be told."""
        level = self._level_at(confidence)
        if self.draws is None or level is None:
            return -math.inf
        return _quantile(self.draws, 1 - level)

    def high_at(self, confidence: float) -> float:
        """Return the one-sided bound above at a confidence from 0.5 to 1; inf = cannot be told."""
        level = self._level_at(confidence)
        if self.draws is None or level is None:
            return math.inf
        return _quantile(self.draws, level)

    def _level_at(self, confidence: float) -> float | None:
        """Return the quantile of the draws, None where it lies farther out than they reach."""
        if self.documents < FEWEST_DOCUMENTS:
            return None
        level = _level(self.documents, confidence)
        return level if level <= 1 - _FEWEST_BEYOND / RESAMPLES else None


def relative_change(
    before: Sequence[float],
    after: Sequence[float],
    *,
    noise: float = 0.0,
    clusters: Sequence[str] | None = None,
) -> Change:
    """Compare the nats of the same items before and after, each (items,): ratio of sums less one.

    The error is that of the items joined, as independent, with `noise`, a relative standard
    deviation of training. clusters (items,) names what an item shares with others; None = nothing.
    Fewer than `FEWEST_DOCUMENTS` clusters have infinite bounds. Different lengths, no item or
    nothing to divide by is a ValueError.
    """
    old, new = _paired(before, after)
    if not (old > 0).all():
        raise ValueError("scores that are not above zero cannot be compared")
    old, new = by_cluster(old, clusters), by_cluster(new, clusters)
    ratios = _resampled(new, old)
    return _change(float(new.sum() / old.sum() - 1), ratios - 1, count=len(old), noise=noise)


def rate_change(
    before: Sequence[float],
    after: Sequence[float],
    *,
    noise: float = 0.0,
    clusters: Sequence[str] | None = None,
) -> Change:
    """Compare the same items' results before and after, each (items,) of 0 to 1: mean less mean.

    Larger is better; `noise` is absolute. Where few items changed, drawing them again tells too
    little of those that might have: half an item more in every cell of the table of pairs (Agresti
    and Min 2005) adds 1 / n to the error. Otherwise as `relative_change`.
    """
    old, new = _paired(before, after)
    gain = by_cluster(new - old, clusters)
    size = by_cluster(np.ones_like(old), clusters)
    means, count = _resampled(gain, size), len(size)
    spread = math.hypot(noise, 1 / count)
    return _change(float(gain.sum() / size.sum()), means, count=count, noise=spread)


def rate_resolution(count: int, *, noise: float = 0.0) -> float:
    """Return how far from a rate that did not change at all its bounds lie, as a rate.

    count: items or clusters, from `FEWEST_DOCUMENTS`; noise as in `rate_change`. No change is known
    to be smaller than this.
    """
    return NormalDist().inv_cdf(_level(count)) * math.hypot(noise, 1 / count)


def _paired(before: Sequence[float], after: Sequence[float]) -> tuple[Floats, Floats]:
    old, new = np.asarray(before, dtype=np.float64), np.asarray(after, dtype=np.float64)
    if old.shape != new.shape or old.ndim != 1 or not len(old):
        raise ValueError(f"scores of {len(old)} and {len(new)} documents cannot be paired")
    if not (np.isfinite(old).all() and np.isfinite(new).all()):
        raise ValueError("scores that are not finite cannot be compared")
    return old, new


def by_cluster(values: Floats, clusters: Sequence[str] | None) -> Floats:
    """Return the sums of values (items,) in each cluster, in the order of first appearance.

    clusters (items,) names them; None = every item is its own.
    """
    if clusters is None:
        return values
    number = {name: i for i, name in enumerate(dict.fromkeys(clusters))}
    index = np.fromiter((number[name] for name in clusters), dtype=np.intp, count=len(clusters))
    return np.bincount(index, weights=values, minlength=len(number)).astype(np.float64)


def _resampled(above: Floats, below: Floats) -> Floats:
    """Return sum of above over sum of below, each (clusters,), in every resample."""
    if len(above) < FEWEST_DOCUMENTS:
        return np.empty(0)
    if (below == below[0]).all():  # then every resample is divided by the same
        total = below[0] * len(below)
        return np.concatenate([above[i].sum(axis=1) / total for i in _draws(len(above))])
    parts = [above[i].sum(axis=1) / below[i].sum(axis=1) for i in _draws(len(above))]
    return np.concatenate(parts)


def _change(value: float, draws: Floats, *, count: int, noise: float) -> Change:
    if not len(draws):
        return Change(value, count, math.inf)
    noisy = draws + noise * _noise()
    error = float(noisy.std(ddof=1)) * math.sqrt(count / (count - 1))
    return Change(value, count, MDE_FACTOR * error, np.sort(noisy))


def _quantile(ordered: Floats, level: float) -> float:
    """Return the quantile, between two draws their mean by distance: without sorting them again."""
    place = level * (len(ordered) - 1)
    below = min(int(place), len(ordered) - 2)
    return float(ordered[below] + (place - below) * (ordered[below + 1] - ordered[below]))


def _level(count: int, confidence: float = CONFIDENCE) -> float:
    """Return the quantile of the draws that is a one-sided bound for so few documents.

    Draws spread too little by the root of (count - 1) / count, and a deviation that is itself
    estimated wants Student's t and not the normal distribution: moving the level mends both and,
    unlike stretching the bounds, keeps them monotone.
    """
    freedom = count - 1
    return NormalDist().cdf(student_t(freedom, confidence) * math.sqrt(count / freedom))


def student_t(freedom: int, confidence: float = CONFIDENCE) -> float:
    """Return the quantile of Student's t with so many degrees of freedom, from 2.

    By its expansion in 1 / freedom (Abramowitz and Stegun 26.7.5): at 95 % right to 0.002 from four
    degrees on, 0.006 short with three, and 0.035 with two.
    """
    z = NormalDist().inv_cdf(confidence)
    t = z + (z**3 + z) / (4 * freedom) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * freedom**2)
    return t + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * freedom**3)


def _draws(count: int) -> Iterator[npt.NDArray[np.intp]]:
    """Yield indices of `count` documents, (resamples, count) in parts."""
    bits = np.random.PCG64(_SEED)
    rows = max(1, _INDICES_AT_ONCE // count)
    for start in range(0, RESAMPLES, rows):
        shape = (min(rows, RESAMPLES - start), count)
        # 32 bits times the count, and of that the upper half: even to one part in 10**6.
        upper = bits.random_raw(shape[0] * count) >> np.uint64(32)
        yield ((upper * np.uint64(count)) >> np.uint64(32)).astype(np.intp).reshape(shape)


@lru_cache(maxsize=1)
def _noise() -> Floats:
    """Return a standard normal value per resample, in an order unrelated to the draws."""
    normal = NormalDist()
    values = [normal.inv_cdf((rank + 0.5) / RESAMPLES) for rank in range(RESAMPLES)]
    return np.asarray(values)[np.argsort(np.random.PCG64(_SEED + 1).random_raw(RESAMPLES))]
