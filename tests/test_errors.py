"""What a library says is told in one line, however much it says."""

import pytest

from yxanul.errors import first_line, in_words


@pytest.mark.parametrize(
    ("said", "first", "whole"),
    [
        ("no card\nsee page 9", "no card", "no card see page 9"),
        ("\n  no card  \n", "no card", "no card"),
        ("", "RuntimeError", "RuntimeError"),
        ("\n", "RuntimeError", "RuntimeError"),
        ("x " * 300, ("x " * 100), "x " * 98 + "x..."),
    ],
)
def test_what_an_error_says_is_one_line_and_never_nothing(said, first, whole):
    assert first_line(RuntimeError(said)) == first
    assert in_words(RuntimeError(said)) == whole
