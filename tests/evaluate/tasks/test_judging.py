"""What counts as right is what lm-evaluation-harness' own filters and metric count."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.harness import task_definition
from yxanul.data.items import AnswerItem
from yxanul.evaluate.tasks.judging import (
    is_alias,
    is_flexible_number,
    is_last_number,
    is_strict_number,
    likeliest,
    likeliest_per_character,
)

SOLUTION = "Two cost 2*3 = $<<2*3=6>>6 thousand.\n#### 6,000"
# Texts near the patterns are likelier than any alphabet to find a difference.
PIECES = [
    "####",
    "#### ",
    " ",
    "6,000",
    "6000",
    "$",
    ".",
    "-",
    "1",
    "Answer: ",
    "\n",
    "6000.",
    "-6",
]
WRITTEN = st.lists(st.sampled_from(PIECES), max_size=8).map("".join)


def theirs(name: str, written: str, target: str | list[str], *, filtered: str) -> bool:
    """What the harness' filter and metric of a task say of a text."""
    from lm_eval.api.metrics import exact_match_hf_evaluate
    from lm_eval.filters import build_filter_ensemble

    task = task_definition(name)
    (chosen,) = (one for one in task["filter_list"] if one["name"] == filtered)
    (first,) = (one for one in chosen["filter"] if one["function"] != "take_first")
    options = {key: value for key, value in first.items() if key != "function"}
    step = build_filter_ensemble("one", [[first["function"], options]]).filters[0]()
    ((kept,),) = step.apply([[written]], [{}])
    targets = [target] if isinstance(target, str) else target
    (metric,) = task["metric_list"]
    settings = {
        key: value
        for key, value in metric.items()
        if key not in {"metric", "aggregation", "higher_is_better"}
    }
    found = exact_match_hf_evaluate([kept] * len(targets), targets, **settings)
    return bool(found["exact_match"] > 0)


@given(written=WRITTEN)
def test_strict_numbers_are_judged_as_the_harness_judges(written: str) -> None:
    item = AnswerItem("0", "Question: ?\nAnswer:", SOLUTION)
    wanted = theirs("gsm8k", written, SOLUTION, filtered="strict-match")
    assert is_strict_number(written, item) == wanted


@given(written=WRITTEN)
def test_flexible_numbers_are_judged_as_the_harness_judges(written: str) -> None:
    item = AnswerItem("0", "Question: ?\nAnswer:", SOLUTION)
    wanted = theirs("gsm8k", written, SOLUTION, filtered="flexible-extract")
    assert is_flexible_number(written, item) == wanted


@given(
    written=st.lists(
        st.sampled_from(
            ["The", " ", "Ladder", "ladder", "s", "'", "№ 1", "(", ")", "!", "\n", "É"]
        ),
        max_size=7,
    ).map("".join)
)
def test_aliases_are_judged_as_the_harness_judges(written: str) -> None:
    aliases = ("The ladders' (№ 1)", "ladder", "Éladder")
    item = AnswerItem("0", "Question: ?\nAnswer:", "Ladder", aliases)
    wanted = theirs("triviaqa", written, list(aliases), filtered="remove_whitespace")
    assert is_alias(written, item) == wanted


@pytest.mark.parametrize(
    ("written", "right"),
    [
        (" #### 6,000", True),
        ("#### 6000.", True),
        ("#### 600\n#### 6000", False),
        ("6000", False),
        ("#### $6,000", False),
    ],
)
def test_strict_takes_the_first_number_after_the_mark(written: str, right: bool) -> None:
    assert is_strict_number(written, AnswerItem("0", "", SOLUTION)) is right


@pytest.mark.parametrize(
    ("written", "right"), [("6 or $6,000.", True), ("6,000 not 6", False), ("", False)]
)
def test_flexible_takes_the_last_number(written: str, right: bool) -> None:
    assert is_flexible_number(written, AnswerItem("0", "", SOLUTION)) is right


@pytest.mark.parametrize(
    ("written", "right"),
    [
        ("3 + 3 = 6\n\nAnswer: 1,206", True),
        ("Answer: 1206.0", True),
        ("Answer: 1206 of 7", False),
        ("no number", False),
    ],
)
def test_the_last_number_of_a_worked_answer_counts(written: str, right: bool) -> None:
    item = AnswerItem("0", "", "603 * 2 = 1206\n\nAnswer: 1206", ("1206",))
    assert is_last_number(written, item) is right


def test_endings_are_compared_per_character_without_the_space() -> None:
    nats, texts = [4.0, 9.0, 1.0], ["four", "é" * 8, ""]
    assert likeliest(nats) == 2
    with np.errstate(divide="ignore"):  # the harness' own expression, -inf for the empty text
        theirs = np.argmax(-np.array(nats) / np.array([float(len(text)) for text in texts]))
    assert likeliest_per_character(nats, texts) == theirs == 0
    by_bytes = np.array([float(len(text.encode())) for text in texts[:2]])
    assert np.argmax(-np.array(nats[:2]) / by_bytes) == 1


def test_the_first_of_equals_is_chosen() -> None:
    assert likeliest([2.0, 2.0]) == 0
    assert likeliest_per_character([2.0, 2.0], ["ab", "cd"]) == 0
