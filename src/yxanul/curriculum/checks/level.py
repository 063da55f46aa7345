"""G5: is the run where an earlier one says that it should be?

L(D) = floor + scale / D ** power, bits per byte after D tokens of the run: the form of the scaling
laws (arXiv 2001.08361, 2203.15556) with one model size.
"""

import math
from collections.abc import Sequence

import numpy as np

from yxanul.config.gate import ForecastConfig, LevelConfig
from yxanul.curriculum.checks.check import Check
from yxanul.errors import UsageError

_FEWEST_POINTS = 4
_POWERS = np.geomspace(0.02, 2.0, 400)


def forecast_bpb(forecast: ForecastConfig, tokens: float) -> float:
    """Return the bits per byte that are expected after `tokens` tokens of the run, above 0."""
    return forecast.floor + forecast.scale * math.pow(tokens, -forecast.power)


def level_check(domain: str, bpb: float, *, tokens: int, level: LevelConfig) -> Check:
    """G5 for one own domain with a forecast: how far above it the score lies, relative."""
    wanted = forecast_bpb(level.forecast[domain], tokens)
    over = bpb / wanted - 1
    told = f"{domain} {bpb:.4f}, forecast {wanted:.4f} after {tokens:,} tokens"
    if over <= level.margin:
        return Check("G5", domain, "pass", told, value=over, margin=level.margin)
    if over <= level.limit:
        return Check("G5", domain, "warn", told, value=over, margin=level.margin)
    why = f"{told}: over {level.limit:+.0%}"
    return Check("G5", domain, "fail", why, "stop", value=over, margin=level.margin)


def fit_forecast(points: Sequence[tuple[float, float]], *, of: str) -> ForecastConfig:
    """Fit floor, scale and power to (tokens, bits per byte) of an earlier run, least squares.

    Fewer than 4 points, or points that do not fall, are a `UsageError` that names `of`.
    """
    tokens, bpb = np.asarray(points, dtype=np.float64).reshape(-1, 2).T
    if len(tokens) < _FEWEST_POINTS or (tokens <= 0).any():
        raise UsageError(
            f"{of}: {len(points)} scores cannot tell a forecast, it takes 4 at least; train with a "
            "smaller evaluation.every_fraction"
        )
    best = min((_line(tokens, bpb, power=power) for power in _POWERS), key=lambda fit: fit[0])
    _, floor, scale, power = best
    if scale <= 0:
        raise UsageError(f"{of}: the scores do not fall with tokens, so they tell no forecast")
    return ForecastConfig(floor=floor, scale=scale, power=power)


def _line(
    tokens: np.ndarray, bpb: np.ndarray, *, power: float
) -> tuple[float, float, float, float]:
    """Return squared error, floor (0 at least), scale and power of the best fit at one power."""
    x = tokens**-power
    scale, floor = np.polyfit(x, bpb, 1)
    if floor < 0:
        floor, scale = 0.0, float((x * bpb).sum() / (x * x).sum())
    error = float(((floor + scale * x - bpb) ** 2).sum())
    return error, float(floor), float(scale), float(power)
