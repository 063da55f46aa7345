"""How much a score wavers while a model trains, from one evaluation to the next.

Item noise is not training noise: a comparison of two checkpoints needs both (Signal and Noise,
arXiv 2508.13144, whose estimate this is).
"""

import math
from collections.abc import Sequence

import numpy as np

FEWEST_SCORES = 4
"""Fewer scores do not tell how much they waver: a line takes two of them."""


def checkpoint_noise(course: Sequence[tuple[int, float]]) -> float | None:
    """Return the relative standard deviation of a score around its line in log tokens.

    course: (tokens, bits per byte) of one phase of a stage, in order; its scored end is not in it,
    or a worse end would widen its own interval. None with fewer than 4 points.
    """
    points = [(tokens, score) for tokens, score in course if tokens > 0]
    if len(points) < FEWEST_SCORES:
        return None
    x = np.log([float(tokens) for tokens, _ in points])
    y = np.asarray([score for _, score in points])
    slope, level = np.polyfit(x, y, 1)
    left = y - (slope * x + level)
    return float(math.sqrt(float((left**2).sum()) / (len(points) - 2)) / y.mean())


def comparison_noise(sigma: float) -> float:
    """Return what two scores of one checkpoint each add to the error of their difference."""
    return math.sqrt(2) * sigma
