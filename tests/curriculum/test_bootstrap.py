"""Changes of bits per byte: right on average, sure only as far as the documents go, monotone."""

import math
import random
import statistics
from statistics import NormalDist

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from yxanul.curriculum.statistics.bootstrap import (
    _level,
    rate_change,
    rate_resolution,
    relative_change,
    student_t,
)

nats = st.floats(0.5, 500)
pairs = st.lists(st.tuples(nats, nats), min_size=5, max_size=40)


def drawn(generator: random.Random, documents: int, shift: float) -> tuple[list, list]:
    """Nats of documents before, and after a change whose true relative size is `shift`."""
    before = [generator.lognormvariate(4, 0.5) for _ in range(documents)]
    return before, [x * (1 + shift + generator.gauss(0, 0.05)) for x in before]


@given(st.lists(nats, min_size=5, max_size=40), st.floats(0.2, 5))
def test_a_change_that_every_document_shares_is_known_exactly(before, factor):
    change = relative_change(before, [x * factor for x in before])
    for number in (change.value, change.low, change.high):
        assert number == pytest.approx(factor - 1, abs=1e-9)


@settings(max_examples=50)
@given(pairs, st.data())
def test_a_document_that_got_worse_never_lowers_a_bound(scores, data):
    before, after = (list(column) for column in zip(*scores, strict=True))
    worse = [x + data.draw(st.floats(0, 100)) for x in after]
    old, new = relative_change(before, after), relative_change(before, worse)
    for name in ("value", "low", "high"):
        assert getattr(new, name) >= getattr(old, name) - 1e-12


@given(pairs)
def test_identical_input_gives_identical_output(scores):
    before, after = zip(*scores, strict=True)
    assert relative_change(before, after) == relative_change(before, after)


def test_the_spread_is_that_of_the_documents():
    before, after = drawn(random.Random(1), 60, 0.1)
    change = relative_change(before, after)
    # the delta method's standard error of a ratio of sums
    ratio = sum(after) / sum(before)
    errors = [b - ratio * a for a, b in zip(before, after, strict=True)]
    expected = statistics.stdev(errors) * math.sqrt(60) / sum(before)
    assert change.minimal_detectable / 2.8 == pytest.approx(expected, rel=0.1)


@pytest.mark.parametrize("documents", [5, 8, 24])
def test_with_no_change_a_bound_is_crossed_as_rarely_as_it_says(documents):
    generator = random.Random(documents)
    crossed = sum(relative_change(*drawn(generator, documents, 0.0)).low > 0 for _ in range(400))
    # 5 % of 400 is 20; by chance alone, four deviations of a binomial more or less
    assert 3 <= crossed <= 38


@pytest.mark.parametrize(
    ("documents", "student"), [(5, 2.1318), (8, 1.8946), (24, 1.7139), (100, 1.6604)]
)
def test_the_level_of_a_bound_is_that_of_student_and_of_the_draws(documents, student):
    expected = NormalDist().cdf(student * math.sqrt(documents / (documents - 1)))
    assert _level(documents) == pytest.approx(expected, abs=2e-4)


def test_noise_between_seeds_widens_the_interval():
    before, after = drawn(random.Random(3), 50, 0.1)
    alone = relative_change(before, after)
    joined = relative_change(before, after, noise=0.05)
    assert joined.value == alone.value
    expected = math.hypot(alone.minimal_detectable, 2.8 * 0.05)
    assert joined.minimal_detectable == pytest.approx(expected, rel=0.02)
    assert joined.low < alone.low < alone.high < joined.high


@pytest.mark.parametrize("count", [1, 4])
def test_a_few_documents_are_never_evidence(count):
    change = relative_change([10.0] * count, [5.0] * count)
    assert (change.value, change.low, change.high) == (-0.5, -math.inf, math.inf)


@pytest.mark.parametrize(
    ("before", "after"),
    [([], []), ([1.0, 2.0], [1.0]), ([1.0, math.nan], [1.0, 1.0]), ([0.0, 0.0], [1.0, 1.0])],
)
def test_what_cannot_be_compared_is_refused(before, after):
    with pytest.raises(ValueError, match="cannot be"):
        relative_change(before, after)


rates = st.lists(st.tuples(st.booleans(), st.booleans()), min_size=5, max_size=40)


@settings(max_examples=50)
@given(rates, st.data())
def test_an_item_that_is_lost_never_raises_a_bound(results, data):
    before, after = ([float(x) for x in column] for column in zip(*results, strict=True))
    lost = [x * data.draw(st.booleans()) for x in after]
    old, new = rate_change(before, after), rate_change(before, lost)
    for name in ("value", "low", "high"):
        assert getattr(new, name) <= getattr(old, name) + 1e-12


def test_items_of_one_cluster_count_as_one():
    generator = random.Random(7)
    before, after = drawn(generator, 40, 0.1)
    names = [str(i) for i in range(40)]
    once = relative_change(before, after, clusters=names)
    thrice = relative_change(before * 3, after * 3, clusters=names * 3)
    assert thrice.documents == once.documents == 40
    assert (thrice.low, thrice.value, thrice.high) == pytest.approx(
        (once.low, once.value, once.high)
    )
    assert relative_change(before * 3, after * 3).minimal_detectable < 0.7 * once.minimal_detectable


def test_a_rate_is_compared_in_points_and_its_spread_is_that_of_the_discordant_items():
    before = [1.0] * 500 + [0.0] * 500
    after = [1.0] * 440 + [0.0] * 60 + [1.0] * 60 + [0.0] * 440
    change = rate_change(before, after)
    assert change.value == 0
    assert change.minimal_detectable / 2.8 == pytest.approx(math.sqrt(0.12 / 1000), rel=0.05)


def test_items_of_which_none_changed_are_no_proof_that_none_would():
    for n in (20, 200):
        change = rate_change([0.0] * n, [0.0] * n)
        assert change.value == 0
        assert -3 / n < change.low < -1.5 / n  # the rule of three would say -3 / n


@pytest.mark.parametrize(
    ("n", "changed", "margin"),
    [(50, 0.05, 0.02), pytest.param(164, 0.02, 0.02, marks=pytest.mark.slow)],
)
def test_a_rate_at_its_margin_seldom_passes_even_where_few_items_change(n, changed, margin):
    """Without what Agresti and Min add, 15 to 19 % of these did."""
    generator = random.Random(n)
    passed = 0
    lost, won = (changed + margin) / 2, (changed - margin) / 2
    for _ in range(200):
        kinds = generator.choices(["lost", "won", "same"], [lost, won, 1 - changed], k=n)
        before, after = ([float(kind == one) for kind in kinds] for one in ("lost", "won"))
        passed += rate_change(before, after).low >= -margin
    assert passed <= 22  # four deviations of a binomial over 5 %


def test_what_lies_farther_out_than_the_draws_reach_cannot_be_told():
    few, more = (relative_change(*drawn(random.Random(1), n, 0.5)) for n in (5, 30))
    assert few.low > 0.4
    assert (few.low_at(0.99), few.high_at(0.99)) == (-math.inf, math.inf)
    assert more.low_at(0.99) > 0.4


@pytest.mark.parametrize("confidence", [0.95, 0.99, 1 - 0.05 / 6])
def test_a_bound_at_a_higher_confidence_lies_farther_out(confidence):
    change = relative_change(*drawn(random.Random(9), 30, 0.0))
    assert change.low_at(confidence) <= change.low
    assert change.high_at(confidence) >= change.high


@pytest.mark.parametrize(("items", "noise"), [(5, 0.0), (12, 0.05), (300, 0.01)])
def test_what_a_rate_can_tell_is_known_before_it_is_taken(items, noise):
    same = [float(i % 2) for i in range(items)]
    change = rate_change(same, same, noise=noise)
    assert change.high == pytest.approx(rate_resolution(items, noise=noise), rel=0.01)


@pytest.mark.parametrize(("freedom", "exact"), [(2, 2.9200), (3, 2.3534), (4, 2.1318)])
def test_students_quantile_is_close_with_few_degrees_of_freedom(freedom, exact):
    assert student_t(freedom) == pytest.approx(exact, rel=0.015)
