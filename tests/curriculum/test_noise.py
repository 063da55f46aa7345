"""How much a score wavers is found again, a trend is not taken for it."""

import math
import random

import pytest

from yxanul.curriculum.noise import checkpoint_noise, comparison_noise


def course(sigma: float, slope: float, n: int, seed: int) -> list[tuple[int, float]]:
    generator = random.Random(seed)
    tokens = [1000 * (i + 1) for i in range(n)]
    return [(t, 2.0 - slope * math.log(t) + generator.gauss(0, sigma)) for t in tokens]


def test_a_trend_in_log_tokens_is_no_noise():
    assert checkpoint_noise(course(0.0, 0.1, 5, 0)) == pytest.approx(0.0, abs=1e-12)


def test_the_noise_around_a_trend_is_found_again():
    found = [checkpoint_noise(course(0.01, 0.05, 5, seed)) for seed in range(300)]
    mean_square = sum(x * x for x in found) / len(found)
    middle = sum(2.0 - 0.05 * math.log(1000 * i) for i in range(1, 6)) / 5
    assert math.sqrt(mean_square) == pytest.approx(0.01 / middle, rel=0.15)


def test_three_scores_tell_nothing_and_two_checkpoints_waver_twice():
    assert checkpoint_noise(course(0.1, 0.1, 3, 1)) is None
    assert comparison_noise(0.01) == pytest.approx(math.hypot(0.01, 0.01))
