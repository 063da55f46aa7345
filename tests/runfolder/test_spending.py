"""What was spent never comes back, whatever is killed, rolled back or trained again."""

import pytest

from yxanul.errors import CorruptDataError
from yxanul.runfolder.spending import (
    Payment,
    Spending,
    next_process,
    read_payments,
    read_spending,
    record_payment,
)


def test_the_seconds_of_all_processes_add_up(tmp_path):
    path = tmp_path / "spending.jsonl"
    assert next_process(read_payments(path)) == 0
    for figures in ((0, 10.0, 100), (0, 20.0, 200), (1, 5.0, 150), (1, 7.5, 300, 2.5, 64, 2**40)):
        record_payment(path, Payment(*figures))
    assert next_process(read_payments(path)) == 2
    assert read_spending(path) == Spending(27.5, 300)


def test_tokens_that_are_left_cost_what_the_others_did():
    assert Spending(30.0, 300).projected_s(100) == pytest.approx(40.0)
    assert Spending(3.0, 0).projected_s(100) == 3.0


def test_rows_of_an_older_version_are_read(tmp_path):
    path = tmp_path / "spending.jsonl"
    path.write_text('{"process": 0, "seconds": 1.5, "tokens_spent": 3}\n')
    assert read_payments(path) == [Payment(0, 1.5, 3, 0.0, None, None)]


@pytest.mark.parametrize(
    "row",
    [
        '{"process": 0, "seconds": -1, "tokens_spent": 3}',
        '{"a": 1}',
        '{"process": 0, "seconds": 1, "tokens_spent": 3, "scoring_s": "much"}',
        '{"process": 0, "seconds": 1, "tokens_spent": 3, "seq_len": -64}',
        '{"process": 0, "seconds": 1, "tokens_spent": 3, "memory_bytes": [1]}',
    ],
)
def test_a_damaged_row_is_named(tmp_path, row):
    path = tmp_path / "spending.jsonl"
    path.write_text(row + "\n")
    with pytest.raises(CorruptDataError, match="line 1"):
        read_spending(path)
