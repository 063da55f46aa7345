"""How sure a change of bits per byte is: the paired bootstrap over held-out documents.

The one idea: both models read the same documents, and tokens of one document are not independent,
so whole documents are drawn again and each draw compares the same ones (Efron and Tibshirani 1993;
clustered and paired for language models: Miller, arXiv 2411.00640). Identical input gives identical
output: indices come from the raw bits of PCG64, whose stream numpy keeps, unlike its distributions.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

RESAMPLES = 10_000
Z_95 = 1.6449  # one-sided 95 % of the normal distribution
MDE_FACTOR = 2.8  # 80 % power at a two-sided 5 %, in standard errors
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

    The standard error is that of the documents and `training_noise`, a relative standard deviation
    between seeds, joined as independent. One document alone has no error that can be known: its
    interval is infinite. Different lengths, no document or nothing to divide by is a ValueError.
    """
    old, new = np.asarray(before, dtype=np.float64), np.asarray(after, dtype=np.float64)
    if old.shape != new.shape or old.ndim != 1 or not len(old):
        raise ValueError(f"scores of {old.shape} and {new.shape} documents cannot be paired")
    if not (np.isfinite(old).all() and np.isfinite(new).all() and old.sum() > 0):
        raise ValueError("scores that are not finite, or zero, cannot be compared")
    value = float(new.sum() / old.sum() - 1)
    error = math.hypot(_standard_error(old, new), training_noise)
    return Change(
        value=value,
        low=value - Z_95 * error,
        high=value + Z_95 * error,
        documents=len(old),
        minimal_detectable=MDE_FACTOR * error,
    )


def _standard_error(old: np.ndarray, new: np.ndarray) -> float:
    count = len(old)
    if count == 1:
        return math.inf
    bits = np.random.PCG64(_SEED)
    ratios: list[np.ndarray] = []
    rows = max(1, _INDICES_AT_ONCE // count)
    for start in range(0, RESAMPLES, rows):
        shape = (min(rows, RESAMPLES - start), count)
        # 32 bits per index: their remainder by the count is even to one part in 10**5.
        drawn = (bits.random_raw(shape[0] * count) >> np.uint64(32)) * np.uint64(count)
        chosen = (drawn >> np.uint64(32)).astype(np.intp).reshape(shape)
        ratios.append(new[chosen].sum(axis=1) / np.maximum(old[chosen].sum(axis=1), 1e-300))
    return float(np.concatenate(ratios).std(ddof=1))
