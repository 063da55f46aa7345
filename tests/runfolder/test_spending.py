"""What was spent never comes back, whatever is killed, rolled back or trained again."""

import pytest

from yxanul.errors import CorruptDataError
from yxanul.runfolder.spending import Spending, next_process, read_spending, record_spending


def test_the_seconds_of_all_processes_add_up(tmp_path):
    path = tmp_path / "spending.jsonl"
    assert next_process(path) == 0
    for process, seconds, tokens in ((0, 10.0, 100), (0, 20.0, 200), (1, 5.0, 150), (1, 7.5, 300)):
        record_spending(path, process=process, seconds=seconds, tokens=tokens)
    assert next_process(path) == 2
    assert read_spending(path) == Spending(27.5, 300)


def test_tokens_that_are_left_cost_what_the_others_did():
    assert Spending(30.0, 300).projected_s(100) == pytest.approx(40.0)
    assert Spending(3.0, 0).projected_s(100) == 3.0


@pytest.mark.parametrize("row", ['{"process": 0, "seconds": -1, "tokens_spent": 3}', '{"a": 1}'])
def test_a_damaged_row_is_named(tmp_path, row):
    path = tmp_path / "spending.jsonl"
    path.write_text(row + "\n")
    with pytest.raises(CorruptDataError, match="line 1"):
        read_spending(path)
