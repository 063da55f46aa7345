"""What was spent never comes back, whatever is killed, rolled back or trained again."""

from dataclasses import replace

import pytest

from yxanul.errors import CorruptDataError
from yxanul.runfolder.spending import (
    Payment,
    Spent,
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
    assert read_spending(path) == Spent(27.5, 0.0, 27.5)


def test_hours_that_were_paid_elsewhere_stay_what_they_cost(tmp_path):
    """15 h at $6.88 are $103.20, whatever the next machine costs."""
    path = tmp_path / "spending.jsonl"
    for process, hours, price in ((0, 15.0, 6.88), (1, 2.0, 12.0), (2, 1.0, None)):
        paid = Payment(process, hours * 3600, 100, usd_per_hour=price)
        record_payment(path, replace(paid, seconds=60.0))
        record_payment(path, paid)
    spent = read_spending(path)
    assert spent.seconds == 18 * 3600
    assert spent.usd == pytest.approx(103.20 + 24.0)
    assert spent.usd_at(10.0) == pytest.approx(103.20 + 24.0 + 10.0)
    assert Spent(3600.0, 0.0, 3600.0).usd_at(7.0) == pytest.approx(7.0)


def test_rows_of_an_older_version_are_read(tmp_path):
    path = tmp_path / "spending.jsonl"
    path.write_text('{"process": 0, "seconds": 1.5, "tokens_spent": 3}\n')
    assert read_payments(path) == [Payment(0, 1.5, 3)]


def test_a_row_is_read_as_it_was_written(tmp_path):
    path = tmp_path / "spending.jsonl"
    row = Payment(3, 1.5, 30, 0.5, 64, 2**40, 12.5, "8 x a card", 1.8e9, "step-00000003-a0")
    record_payment(path, row)
    assert read_payments(path) == [row]


@pytest.mark.parametrize(
    "row",
    [
        '{"process": 0, "seconds": -1, "tokens_spent": 3}',
        '{"a": 1}',
        '{"process": 0, "seconds": 1, "tokens_spent": 3, "scoring_s": "much"}',
        '{"process": 0, "seconds": 1, "tokens_spent": 3, "seq_len": -64}',
        '{"process": 0, "seconds": 1, "tokens_spent": 3, "memory_bytes": [1]}',
        '{"process": 0, "seconds": 1, "tokens_spent": 3, "usd_per_hour": -1}',
        '{"process": 0, "seconds": 1, "tokens_spent": 3, "machine": 8}',
        '{"process": 0, "seconds": 1, "tokens_spent": 3, "at": "noon"}',
        '{"process": 0, "seconds": 1, "tokens_spent": 3, "checkpoint": 3}',
    ],
)
def test_a_damaged_row_is_named(tmp_path, row):
    path = tmp_path / "spending.jsonl"
    path.write_text(row + "\n")
    with pytest.raises(CorruptDataError, match="line 1"):
        read_spending(path)
