"""Stop texts: an end that is seen early is the end that is seen late."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from yxanul.errors import UsageError
from yxanul.evaluate.answers.stops import Stops

PIECES = st.lists(st.text("ab\n", min_size=1, max_size=3), max_size=12)
STOPS = st.lists(st.text("ab\n", min_size=1, max_size=4), min_size=1, max_size=3)


@given(pieces=PIECES, stops=STOPS)
def test_nothing_written_later_changes_a_final_text(pieces, stops):
    asked = Stops(stops)
    whole = "".join(pieces)
    # What lm-evaluation-harness does with a text when it is done.
    wanted = whole
    for stop in stops:
        wanted = wanted.split(stop)[0]
    assert asked.cut(whole) == wanted
    for count in range(len(pieces) + 1):
        written = "".join(pieces[:count])
        if asked.are_final(written):
            assert asked.cut(written) == wanted
            break
    else:
        assert wanted == whole or any(whole.endswith(s[:n]) for s in stops for n in range(len(s)))


@given(pieces=PIECES, stops=STOPS)
def test_a_stop_text_never_ends_in_a_piece_that_is_passed_over(pieces, stops):
    asked = Stops(stops)
    for count in range(1, len(pieces) + 1):
        before, written = "".join(pieces[: count - 1]), "".join(pieces[:count])
        is_new = any(s in written and s not in before for s in stops)
        assert not is_new or asked.may_end_in(pieces[count - 1])


@pytest.mark.parametrize("piece", ["", " ", "\n", "a ", "\ufffd"])
def test_a_piece_that_a_tokenizer_may_shorten_is_always_looked_at(piece):
    assert Stops(["xyz"]).may_end_in(piece)
    assert not Stops(["xyz"]).may_end_in("xy")


def test_where_two_overlap_the_first_named_decides_when_it_is_whole():
    asked = Stops(["abc", "b"])
    assert not asked.are_final("xab")
    assert asked.are_final("xabc")
    assert (asked.cut("xab"), asked.cut("xabc")) == ("xa", "x")


def test_an_empty_stop_text_is_refused():
    with pytest.raises(UsageError, match="empty"):
        Stops(["a", ""])
