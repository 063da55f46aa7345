"""G5: is the run where an earlier one says that it should be?

L(D) = floor + scale / D ** power, bits per byte after D tokens of the stage: the form of the
scaling laws (arXiv 2001.08361, 2203.15556) with one model size. Over the tokens of the run it would
be nearly a straight line in a late stage; settings that were printed so are judged so.
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
    """Return the bits per byte that are expected after `tokens` tokens, above 0, of its clock."""
    return forecast.floor + forecast.scale * math.pow(tokens, -forecast.power)


def level_check(domain: str, bpb: float, *, tokens: int, level: LevelConfig) -> Check:
    """G5 for one own domain with a forecast: how far above it the score lies, relative.

    `tokens` are those of the curve's clock.
    """
    curve = level.forecast[domain]
    wanted = forecast_bpb(curve, tokens)
    over = bpb / wanted - 1
    told = f"{domain} {bpb:.4f}, forecast {wanted:.4f} after {tokens:,} tokens of the {curve.clock}"
    if over <= level.margin:
        return Check("G5", domain, "pass", told, value=over, margin=level.margin)
    if over <= level.limit:
        return Check("G5", domain, "warn", told, value=over, margin=level.margin)
    why = f"{told}: over {level.limit:+.0%}"
    return Check("G5", domain, "fail", why, "stop", value=over, margin=level.margin)


def fit_forecast(points: Sequence[tuple[float, float]], *, of: str) -> ForecastConfig:
    """Fit floor, scale and power to (tokens of the stage, bits per byte) of an earlier run.

    The curve goes through the last one, which a gate judges by, and else has the least squares: as
    its rate falls to zero, a stage falls faster than any such curve. Fewer than 4 points, or points
    that do not fall, are a `UsageError` that names `of`.
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
    return ForecastConfig(floor=floor, scale=scale, power=power, clock="stage")


def _line(
    tokens: np.ndarray, bpb: np.ndarray, *, power: float
) -> tuple[float, float, float, float]:
    """Return squared error, floor (0 at least), scale and power of the best fit at one power."""
    x = tokens**-power
    past = x - x[-1]
    scale = min((past * (bpb - bpb[-1])).sum() / (past * past).sum(), bpb[-1] / x[-1])
    floor = max(0.0, bpb[-1] - scale * x[-1])
    error = float(((floor + scale * x - bpb) ** 2).sum())
    return error, float(floor), float(scale), float(power)
