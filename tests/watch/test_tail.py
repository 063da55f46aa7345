"""A growing file, read row by row while somebody writes it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from yxanul.errors import CorruptDataError
from yxanul.runfolder.rows import append_row, cut_rows
from yxanul.watch.tail import RowTail


def test_each_look_reads_what_is_new(tmp_path):
    path = tmp_path / "rows.jsonl"
    tail = RowTail(path)
    assert tail.read() == []
    append_row(path, {"step": 1})
    append_row(path, {"step": 2})
    assert [row["step"] for row in tail.read()] == [1, 2]
    assert tail.read() == []
    append_row(path, {"step": 3})
    assert [row["step"] for row in tail.read()] == [3]
    assert [row["step"] for row in tail.rows] == [1, 2, 3]


@given(cuts=st.lists(st.integers(1, 40), max_size=8))
def test_a_row_is_read_when_it_is_whole(tmp_path_factory, cuts):
    path = tmp_path_factory.mktemp("rows") / "rows.jsonl"
    text = "".join(f'{{"step": {number}, "word": "ä"}}\n' for number in range(6)).encode()
    tail, place = RowTail(path), 0
    for size in [*cuts, len(text)]:
        with path.open("ab") as file:
            file.write(text[place : place + size])
        place += size
        tail.read()
    assert [row["step"] for row in tail.rows] == list(range(6))


def test_a_file_that_is_written_anew_is_read_from_its_beginning(tmp_path):
    path = tmp_path / "rows.jsonl"
    tail = RowTail(path)
    for step in (1, 2, 3):
        append_row(path, {"step": step})
    tail.read()
    cut_rows(path, lambda row: row["step"] < 3)
    append_row(path, {"step": 9})
    assert [row["step"] for row in tail.read()] == [1, 2, 9]
    assert [row["step"] for row in tail.rows] == [1, 2, 9]


def test_a_damaged_row_is_named_by_its_line(tmp_path):
    path = tmp_path / "rows.jsonl"
    tail = RowTail(path)
    append_row(path, {"step": 1})
    tail.read()
    with path.open("a") as file:
        file.write("no row\n")
    with pytest.raises(CorruptDataError, match="line 2"):
        tail.read()
