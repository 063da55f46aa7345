"""Cleaning keeps what a reader sees; dedup and split go by the cleaned text alone."""

import hashlib
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from yxanul.data.preparing.split import KEYED_FRACTION, is_validation, unit_interval
from yxanul.data.treating.clean import clean, reason_to_drop

ANY = st.text(st.characters() | st.sampled_from(" \t\r\n\x0c\ud800\x00\ufeff"), max_size=40)


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


@pytest.mark.parametrize(
    ("raw", "cleaned"),
    [
        ("a\r\nb\rc\n", "a\nb\nc"),
        ("  if x:\n\ty  \n\n", "  if x:\n\ty"),
        ("\n\n    indented", "    indented"),
        ("\ufeffa\x00b\x1b[0m\ud83d", "ab[0m"),
        ("page\x0cbreak", "page\nbreak"),
        ("naïve\u2028e\u0301 日本 😀", "naïve\u2028e\u0301 日本 😀"),
        (" \t\n ", ""),
    ],
)
def test_cleaning_by_example(raw: str, cleaned: str) -> None:
    assert clean(raw) == cleaned


@given(text=ANY)
def test_cleaning_twice_changes_nothing_more(text: str) -> None:
    once = clean(text)
    assert clean(once) == once
    once.encode()  # no lone surrogate is left


def test_cleaning_long_runs_of_spaces_takes_linear_time() -> None:
    start = time.process_time()
    assert clean("a" + " " * 1_000_000 + "b") == "a" + " " * 1_000_000 + "b"
    assert time.process_time() - start < 60  # milliseconds; the square of it would be hours


def test_reasons_to_drop() -> None:
    assert reason_to_drop("") == "empty"
    assert reason_to_drop("caf\ufffd") == "undecodable"
    assert reason_to_drop("one \ufffd in " + "many " * 50) is None
    assert reason_to_drop("text") is None


def test_the_split_holds_out_its_share() -> None:
    held_out = sum(is_validation(sha256(str(n)), split_key=None, fraction=0.1) for n in range(5000))
    assert 400 < held_out < 600


def test_the_side_of_a_key_does_not_depend_on_the_text() -> None:
    for key in map(str, range(50)):
        sides = {is_validation(sha256(text), split_key=key, fraction=0.3) for text in "abcdef"}
        assert len(sides) == 1


def test_keyed_documents_are_held_out_at_no_less_than_five_percent() -> None:
    for key in map(str, range(500)):
        low = is_validation(sha256("x"), split_key=key, fraction=0.001)
        assert low == (unit_interval(f"key/{key}") < KEYED_FRACTION)


@given(text=st.text(max_size=20), low=st.floats(0, 1), high=st.floats(0, 1))
def test_a_larger_fraction_holds_out_more_and_lets_go_of_nothing(
    text: str, low: float, high: float
) -> None:
    low, high = min(low, high), max(low, high)
    if is_validation(sha256(text), split_key=None, fraction=low):
        assert is_validation(sha256(text), split_key=None, fraction=high)
