"""How much a score wavers is found again, a trend is not taken for it."""

import math
import random
from statistics import NormalDist

import pytest

from yxanul.curriculum.statistics.bootstrap import CONFIDENCE
from yxanul.curriculum.statistics.noise import checkpoint_noise, comparison_noise


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


def test_three_scores_tell_nothing():
    assert checkpoint_noise(course(0.1, 0.1, 3, 1)) is None
    assert comparison_noise(course(0.1, 0.1, 3, 1)) is None


@pytest.mark.parametrize("scores", [4, 5])
def test_a_bound_by_so_few_scores_is_crossed_as_rarely_as_it_says(scores):
    """Two checkpoints that differ by their wavering alone, and a bound that knows it by scores."""
    generator, trials, crossed = random.Random(scores), 4000, 0
    z = NormalDist().inv_cdf(CONFIDENCE)
    for trial in range(trials):
        found = course(0.01, 0.0, scores, trial)
        middle = sum(score for _, score in found) / scores
        change = math.sqrt(2) * generator.gauss(0, 0.01) / middle
        noise = comparison_noise(found)
        assert noise > math.sqrt(2) * checkpoint_noise(found)
        crossed += change > z * noise
    # 5 %, with four deviations of a binomial; as a known deviation it would be 10 and 12 %
    assert 0.036 < crossed / trials < 0.064
