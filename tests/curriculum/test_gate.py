"""The gate: progress passes, anything less does not, and worse scores never help."""

import math

from hypothesis import given
from hypothesis import strategies as st

from yxanul.curriculum.gate import progress_verdict

DOMAINS = ("math", "code")
scores = st.floats(0.01, 100)
margins = st.floats(0, 0.99)
odd = st.sampled_from([math.nan, math.inf])


def verdict(before, after, margin: float = 0.01, domains=DOMAINS) -> str:
    return progress_verdict(before, after, own_domains=domains, min_improvement=margin).verdict


@given(st.tuples(scores, scores), st.tuples(scores, scores), st.tuples(scores, scores), margins)
def test_worse_scores_never_give_a_better_verdict(before, after, worse_by, margin):
    old = dict(zip(DOMAINS, before, strict=True))
    new = dict(zip(DOMAINS, after, strict=True))
    worse = {domain: new[domain] + more for domain, more in zip(DOMAINS, worse_by, strict=True)}
    if verdict(old, worse, margin) == "pass":
        assert verdict(old, new, margin) == "pass"


@given(st.tuples(scores, scores), st.tuples(scores, scores), margins, odd, st.sampled_from(DOMAINS))
def test_what_is_not_finite_never_passes(before, after, margin, poison, domain):
    old = dict(zip(DOMAINS, before, strict=True))
    new = dict(zip(DOMAINS, after, strict=True))
    assert verdict(old, {**new, domain: poison}, margin) == "stop"
    assert verdict({**old, domain: poison}, new, margin) == "stop"


@given(scores, margins)
def test_a_domain_must_fall_by_the_margin(before, margin):
    old, floor = {"math": before}, before * (1 - margin)
    assert verdict(old, {"math": floor * 0.999}, margin, ["math"]) == "pass"
    assert verdict(old, {"math": floor * 1.001 + 1e-12}, margin, ["math"]) == "stop"


def test_one_domain_that_did_not_fall_stops_and_is_named():
    decision = progress_verdict(
        {"math": 2.0, "code": 1.0},
        {"math": 1.0, "code": 1.1},
        own_domains=DOMAINS,
        min_improvement=0.05,
    )
    assert decision.verdict == "stop"
    assert "code 1.0000 -> 1.1000" in decision.why
    assert "math" not in decision.why
    assert "5.0%" in decision.why


def test_domains_of_other_stages_do_not_matter():
    before, after = {"math": 2.0, "wikipedia": 1.0}, {"math": 1.0, "wikipedia": 9.0}
    assert verdict(before, after, domains=["math"]) == "pass"


def test_a_missing_score_stops():
    assert verdict({"math": 2.0}, {"math": 1.0}) == "stop"
    assert verdict({"math": 2.0, "code": 2.0}, {"math": 1.0}) == "stop"


def test_with_nothing_to_compare_the_gate_is_not_run():
    assert verdict(None, {"math": 1.0}) == "not run"
    assert verdict({}, {}, domains=[]) == "not run"
