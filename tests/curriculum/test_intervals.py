"""The interval of a single rate."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from yxanul.curriculum.statistics.intervals import wilson


@pytest.mark.parametrize(
    ("passed", "n", "low", "high"),
    # Newcombe 1998, table I
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611)],
)
def test_the_interval_is_the_published_one(passed, n, low, high):
    assert wilson(passed, n) == pytest.approx((low, high), abs=5e-5)


@given(st.integers(1, 2000), st.data())
def test_the_interval_holds_the_rate_and_stays_within_0_and_1(n, data):
    passed = data.draw(st.integers(0, n))
    low, high = wilson(passed, n)
    assert 0 <= low <= passed / n <= high <= 1


@pytest.mark.parametrize(("passed", "n"), [(1, 0), (-1, 5), (6, 5)])
def test_what_is_no_rate_is_refused(passed, n):
    with pytest.raises(ValueError, match="no rate"):
        wilson(passed, n)
