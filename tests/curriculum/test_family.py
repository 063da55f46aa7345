"""Holm's step-down by bounds is the one by p-values, and a worse member never mends the others."""

from hypothesis import given
from hypothesis import strategies as st

from yxanul.curriculum.statistics.family import failing

probabilities = st.lists(st.floats(1e-6, 1.0), min_size=0, max_size=8)


def members(values):
    """A member with this p-value fails at every confidence that leaves more than it."""
    return [lambda confidence, p=p: p <= 1 - confidence + 1e-15 for p in values]


def by_probabilities(values):
    """Holm 1979: each against 5 % over those that are left, up to the first that holds."""
    found = set()
    for rank, (p, index) in enumerate(sorted((p, i) for i, p in enumerate(values))):
        if p > 0.05 / (len(values) - rank) + 1e-15:
            break
        found.add(index)
    return frozenset(found)


@given(probabilities)
def test_bounds_find_what_ordered_probabilities_find(values):
    assert failing(members(values)) == by_probabilities(values)


@given(probabilities, st.data())
def test_a_worse_member_never_frees_another(values, data):
    worse = [p * data.draw(st.floats(0.01, 1.0)) for p in values]
    assert failing(members(values)) <= failing(members(worse))
