"""The standard error of a ratio of sums, as bits per byte are one."""

from __future__ import annotations

import math
from collections.abc import Sequence


def ratio_stderr(above: Sequence[float], below: Sequence[float]) -> float | None:
    """Return the standard error of sum(above) / sum(below) over items; None for a single one.

    By linearisation (Cochran, Sampling Techniques, 6.4); items count as independent.
    """
    n, total = len(above), math.fsum(below)
    if n < 2:
        return None
    ratio = math.fsum(above) / total
    off = math.fsum((a - ratio * b) ** 2 for a, b in zip(above, below, strict=True))
    return math.sqrt(n / (n - 1) * off) / total
