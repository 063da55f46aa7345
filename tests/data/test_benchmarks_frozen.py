"""The items of a run are read once and never change again."""

import pytest

from yxanul.data.benchmarks.frozen import keep_benchmark
from yxanul.data.items import AnswerItem, Benchmark, ChoiceItem, ProgramItem
from yxanul.errors import CorruptDataError

ITEMS = (
    ChoiceItem("c1", "The mill", (" turns.", " flies."), 0, cluster="a"),
    AnswerItem("a1", "Question: 1 + 1?\nAnswer:", "2", ("2", "two")),
    ProgramItem("p1", "def f():\n", "    return 1\n", "def check(f): assert f() == 1", "f"),
)
SET = Benchmark("mixed", ITEMS, (ITEMS[1],), "written for the test")


def refuse():
    raise AssertionError("read again")


def test_what_was_read_once_comes_back_without_its_source(tmp_path):
    first = keep_benchmark(tmp_path / "bench", "mixed", read=lambda: SET)
    assert first == SET
    assert keep_benchmark(tmp_path / "bench", "mixed", read=refuse) == SET


@pytest.mark.parametrize(
    ("old", "new"), [("turns", "burns"), ('"a1"', '"a2"'), ('"form"', '"fork"'), ("[", "")]
)
def test_items_that_are_not_the_ones_that_were_kept_are_refused(tmp_path, old, new):
    keep_benchmark(tmp_path, "mixed", read=lambda: SET)
    path = tmp_path / "mixed.json"
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(CorruptDataError, match=r"mixed\.json does not hold the items"):
        keep_benchmark(tmp_path, "mixed", read=refuse)
