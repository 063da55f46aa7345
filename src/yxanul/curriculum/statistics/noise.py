"""How much a score wavers while a model trains, from one evaluation to the next.

Item noise is not training noise: a comparison of two checkpoints needs both (Signal and Noise,
arXiv 2508.13144, whose estimate this is).
"""

import math
from collections.abc import Sequence
from statistics import NormalDist

import numpy as np

from yxanul.curriculum.statistics.bootstrap import CONFIDENCE, student_t

FEWEST_SCORES = 4
"""Fewer scores do not tell how much they waver: a line takes two of them."""


def checkpoint_noise(course: Sequence[tuple[int, float]]) -> float | None:
    """Return the relative standard deviation of a score around its line in log tokens.

    course: (tokens, bits per byte) of one phase of a stage, in order; its scored end is not in it,
    or a worse end would widen its own interval. None with fewer than 4 points.
    """
    points = _trained(course)
    if len(points) < FEWEST_SCORES:
        return None
    x = np.log([float(tokens) for tokens, _ in points])
    y = np.asarray([score for _, score in points])
    slope, level = np.polyfit(x, y, 1)
    left = y - (slope * x + level)
    return float(math.sqrt(float((left**2).sum()) / _freedom(points)) / y.mean())


def comparison_noise(course: Sequence[tuple[int, float]]) -> float | None:
    """Return what two scores of one checkpoint each add to the error of their difference, relative.

    A deviation of so few scores is itself hardly known: it is widened as far as Student's t lies
    beyond the normal quantile, so that a 95 % bound of a normal error is crossed in 5 % of cases.
    course and None as in `checkpoint_noise`.
    """
    sigma = checkpoint_noise(course)
    if sigma is None:
        return None
    widening = student_t(_freedom(_trained(course))) / NormalDist().inv_cdf(CONFIDENCE)
    return math.sqrt(2) * sigma * widening


def _trained(course: Sequence[tuple[int, float]]) -> list[tuple[int, float]]:
    return [(tokens, score) for tokens, score in course if tokens > 0]


def _freedom(points: Sequence[tuple[int, float]]) -> int:
    """Return the degrees of freedom that the line leaves."""
    return len(points) - 2
