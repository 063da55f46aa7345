"""Curves lose no spike, axes are marked in round numbers, intervals keep their order."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from yxanul.report.charts.figures import thin, token_axis
from yxanul.report.reading.gather import Run
from yxanul.report.reading.records import Record
from yxanul.report.reading.traced import Traced, change, source_of
from yxanul.report.reading.words import address, signed_percent
from yxanul.report.sections.forgetting import Cell
from yxanul.report.sections.gates import cards
from yxanul.units import format_duration


def points(values):
    record = Record(Path("metrics.jsonl"), "metrics.jsonl", {}, 1)
    return [(record, v) for v in values]


@given(st.lists(st.one_of(st.none(), st.floats(-1e6, 1e6)), min_size=1, max_size=300))
def test_a_thinned_curve_keeps_its_ends_and_extremes_in_order(values):
    full = points(values)
    kept = thin(full, most=40)
    assert len(kept) <= max(40, 2)
    assert [full[0], full[-1]] == [kept[0], kept[-1]]
    given_, left = ([p[1] for p in part if p[1] is not None] for part in (full, kept))
    if given_:
        assert (max(given_), min(given_)) == (max(left), min(left))
    places = iter(full)
    assert all(any(point is other for other in places) for point in kept)


def test_a_short_curve_is_drawn_whole():
    full = points([1.0, None, 2.0])
    assert thin(full) == full


@pytest.mark.parametrize("last", [0, 1, 7, 2048, 1_013_760, 57_400_000_000])
def test_the_token_axis_has_few_round_marks_within_its_range(last):
    axis = token_axis(last)
    assert 1 <= len(axis["tickvals"]) <= 7
    assert axis["tickvals"][-1] <= max(last, 1)
    assert len(set(axis["ticktext"])) == len(axis["ticktext"])


def test_tokens_are_marked_with_b_for_billions():
    assert token_axis(57_400_000_000)["ticktext"][-1] == "40B"


@given(
    value=st.floats(-1, 1),
    below=st.floats(0, 0.5),
    above=st.floats(0, 0.5),
    margin=st.one_of(st.none(), st.floats(-1, 1)),
)
def test_an_interval_is_drawn_within_its_bar_and_in_order(value, below, above, margin):
    row = {"row": "check", "stage": "s", "attempt": 0, "step": 1, "id": "G3", "result": "pass"}
    row |= {"value": value, "low": value - below, "high": value + above, "margin": margin}
    record = Record(Path("gates.jsonl"), "gates.jsonl", row, 1)
    interval = cards(Run("x", metrics=(), checks=(record,)))[0].checks[0].interval
    places = [interval.low, interval.value, interval.high]
    assert places == sorted(places)
    marks = [*places, interval.zero, *([interval.margin] if margin is not None else [])]
    assert all(0 <= mark <= 100 for mark in marks)
    if margin is not None and abs(margin - value) > 1e-3:
        assert (interval.margin > interval.value) == (margin > value)


@pytest.mark.parametrize(("moved", "tone"), [(-0.4, "learned"), (0.2, "forgotten"), (0.0, "even")])
def test_the_colour_says_what_happened(moved, tone):
    assert Cell(None, Traced(moved, ()), False).tone == tone


def test_more_forgetting_never_has_less_colour():
    strengths = [Cell(None, Traced(step / 100, ()), False).strength for step in range(60)]
    assert strengths == sorted(strengths)
    assert strengths[-1] == 100
    assert Cell(None, None, False).strength == 0


def test_a_change_from_nothing_is_not_a_number():
    assert change(Traced(1.0, ("a",)), Traced(0.0, ("b",))) is None


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0 s"), (59.6, "1 min 0 s"), (176.1, "2 min 56 s"), (7384, "2 h 3 min")],
)
def test_durations_are_written_in_two_units(seconds, text):
    assert format_duration(seconds) == text


@pytest.mark.parametrize(
    ("share", "text"), [(-0.0004, "0.0 %"), (0.0516, "+5.2 %"), (-0.4855, "−48.5 %")]
)
def test_changes_carry_their_sign_and_zero_has_none(share, text):
    assert signed_percent(share) == text


def test_an_address_is_readable_whatever_the_names_hold():
    source = source_of("a b.jsonl", "x/y", "~1 z", line=3)
    assert " " not in source
    assert address(source) == "a b.jsonl, line 3: x/y / ~1 z"
