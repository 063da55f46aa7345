"""How sure a change of bits per byte is: the paired bootstrap over held-out documents.

The one idea: both models read the same documents, and tokens of one document are not independent,
so whole documents are drawn again and each draw compares the same ones (Efron and Tibshirani 1993;
clustered and paired for language models: Miller, arXiv 2411.00640). The draws are the same for
every comparison of as many documents, and bounds are quantiles over them. So identical input gives
identical output, and a document that got worse never lowers a bound. Draws come from the raw bits
of PCG64, whose stream numpy keeps, unlike its distributions.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from statistics import NormalDist

import numpy as np

RESAMPLES = 10_000
MDE_FACTOR = 2.8  # 80 % power at a two-sided 5 %, in standard errors
FEWEST_DOCUMENTS = 5
"""Fewer have bounds that nobody can know."""
_ONE_SIDED = 0.95
_SEED = 0x9E3779B9
_INDICES_AT_ONCE = 1 << 22  # 32 MiB


@dataclass(frozen=True)
class Change:
    """A relative change of bits per byte: -0.05 = fell by 5 %."""

    value: float
    low: float
    """One-sided 95 % bound below."""
    high: float
    """One-sided 95 % bound above."""
    documents: int
    minimal_detectable: float
    """The smallest change that a repetition would find 80 % of the time."""


def relative_change(
    before: Sequence[float], after: Sequence[float], *, training_noise: float = 0.0
) -> Change:
    """Compare the nats of the same documents before and after, each (documents,).

    The error is that of the documents joined, as independent, with `training_noise`, a relative
    standard deviation between seeds. Fewer documents than `FEWEST_DOCUMENTS` have infinite bounds.
    Different lengths, no document or nothing to divide by is a ValueError.
    """
    old, new = np.asarray(before, dtype=np.float64), np.asarray(after, dtype=np.float64)
    if old.shape != new.shape or old.ndim != 1 or not len(old):
        raise ValueError(f"scores of {len(old)} and {len(new)} documents cannot be paired")
    if not (np.isfinite(old).all() and np.isfinite(new).all() and (old > 0).all()):
        raise ValueError("scores that are not finite, or not above zero, cannot be compared")
    value, count = float(new.sum() / old.sum() - 1), len(old)
    if count < FEWEST_DOCUMENTS:
        return Change(value, -math.inf, math.inf, count, math.inf)
    ratios = [new[drawn].sum(axis=1) / old[drawn].sum(axis=1) for drawn in _draws(count)]
    changes = np.concatenate(ratios) - 1 + training_noise * _noise()
    level = _level(count)
    low, high = np.quantile(changes, (1 - level, level))
    error = float(changes.std(ddof=1)) * math.sqrt(count / (count - 1))
    return Change(value, float(low), float(high), count, MDE_FACTOR * error)


def _level(count: int) -> float:
    """Return the quantile of the draws that is a one-sided 95 % bound for so few documents.

    Draws spread too little by the root of (count - 1) / count, and a deviation that is itself
    estimated wants Student's t and not the normal distribution: moving the level mends both and,
    unlike stretching the bounds, keeps them monotone. t by its expansion in 1 / freedom (Abramowitz
    and Stegun 26.7.5), right to 0.002 from four degrees on.
    """
    normal, freedom = NormalDist(), count - 1
    z = normal.inv_cdf(_ONE_SIDED)
    t = z + (z**3 + z) / (4 * freedom) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * freedom**2)
    t += (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * freedom**3)
    return normal.cdf(t * math.sqrt(count / freedom))


def _draws(count: int) -> Iterator[np.ndarray]:
    """Yield indices of `count` documents, (resamples, count) in parts."""
    bits = np.random.PCG64(_SEED)
    rows = max(1, _INDICES_AT_ONCE // count)
    for start in range(0, RESAMPLES, rows):
        shape = (min(rows, RESAMPLES - start), count)
        # 32 bits times the count, and of that the upper half: even to one part in 10**6.
        upper = bits.random_raw(shape[0] * count) >> np.uint64(32)
        yield ((upper * np.uint64(count)) >> np.uint64(32)).astype(np.intp).reshape(shape)


@lru_cache(maxsize=1)
def _noise() -> np.ndarray:
    """Return a standard normal value per resample, in an order unrelated to the draws."""
    normal = NormalDist()
    values = [normal.inv_cdf((rank + 0.5) / RESAMPLES) for rank in range(RESAMPLES)]
    return np.asarray(values)[np.argsort(np.random.PCG64(_SEED + 1).random_raw(RESAMPLES))]
