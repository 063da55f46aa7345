"""Rows survive a process that dies between any two bytes; damage in the middle is said."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from yxanul.errors import CorruptDataError, DiskError
from yxanul.runfolder.lineage import (
    AttemptStart,
    begin_attempt,
    current_attempt,
    current_branch,
    first_parent,
    record_event,
    tokens_spent_before,
)
from yxanul.runfolder.rows import append_row, cut_rows, read_rows

ROWS = [{"step": 1, "loss": 2.5}, {"step": 2, "why": "ü\n"}, {"step": 3, "bpb": {"math": 1.0}}]


def written(path, rows=ROWS):
    for row in rows:
        append_row(path, row)
    return path


def test_rows_come_back_as_they_were(tmp_path):
    path = written(tmp_path / "a.jsonl")
    assert read_rows(path) == ROWS
    assert len(path.read_text(encoding="utf-8").splitlines()) == 3
    assert read_rows(tmp_path / "missing.jsonl") == []


@given(st.data())
def test_a_file_cut_anywhere_reads_as_its_whole_rows_and_can_be_added_to(tmp_path_factory, data):
    path = written(tmp_path_factory.mktemp("rows") / "a.jsonl")
    content = path.read_bytes()
    cut = data.draw(st.integers(0, len(content)))
    path.write_bytes(content[:cut])
    whole = ROWS[: content[:cut].count(b"\n")]
    assert read_rows(path) == whole
    append_row(path, {"step": 9}, durable=True)
    assert read_rows(path) == [*whole, {"step": 9}]


@pytest.mark.parametrize("broken", [b"{", b"[1]", b"null", b"", b"\xff\xfe", b"[" * 100_000])
def test_a_broken_line_in_the_middle_is_an_error_that_names_it(tmp_path, broken):
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"step": 1}\n' + broken + b'\n{"step": 3}\n')
    with pytest.raises(CorruptDataError, match=r"a\.jsonl, line 2 "):
        read_rows(path)
    with pytest.raises(CorruptDataError):
        cut_rows(path, lambda row: True)


def test_what_is_not_a_number_becomes_null(tmp_path):
    path = tmp_path / "a.jsonl"
    nan, inf = float("nan"), float("inf")
    append_row(path, {"loss": nan, "list": [inf, 1.0], "deep": {"x": (-inf, 2)}})
    assert json.loads(path.read_text()) == {
        "loss": None,
        "list": [None, 1.0],
        "deep": {"x": [None, 2]},
    }


def test_cut_rows_keeps_the_others_letter_for_letter(tmp_path):
    path = written(tmp_path / "a.jsonl")
    lines = path.read_text(encoding="utf-8").split("\n")
    assert cut_rows(path, lambda row: row["step"] != 2) == 1
    assert path.read_text(encoding="utf-8") == f"{lines[0]}\n{lines[2]}\n"
    assert cut_rows(path, lambda row: False) == 2
    assert path.read_bytes() == b""
    assert cut_rows(tmp_path / "missing.jsonl", lambda row: True) == 0
    assert not (tmp_path / "missing.jsonl").exists()


def test_cut_rows_drops_half_a_line(tmp_path):
    path = written(tmp_path / "a.jsonl")
    path.write_bytes(path.read_bytes() + b'{"step": 4')
    assert cut_rows(path, lambda row: True) == 0
    assert path.read_bytes().endswith(b"}\n")


def test_a_place_that_cannot_be_written_is_a_disk_error(tmp_path):
    with pytest.raises(DiskError, match=r"gates\.jsonl"):
        append_row(tmp_path / "nowhere" / "gates.jsonl", {})


def test_the_last_attempt_that_was_begun_is_the_truth(tmp_path):
    path = tmp_path / "lineage.jsonl"
    assert current_attempt(path) == 0
    begin_attempt(path, AttemptStart(0, step=0, parent=None, reason="the run begins"))
    parent = "step-00000004-a0"
    later = AttemptStart(1, step=4, parent=parent, reason="resumed by name", tokens_spent=9)
    begin_attempt(path, later)
    record_event(path, "set aside", checkpoint="step-00000006-a1")
    assert current_attempt(path) == 1
    assert read_rows(path)[1] == {
        "event": "attempt",
        "attempt": 1,
        "step": 4,
        "parent": parent,
        "reason": "resumed by name",
        "tokens_spent": 9,
        "stage": None,
        "changes": None,
    }
    assert first_parent(path) is None
    assert tokens_spent_before(path) == 9
    # Of the first attempt only what lies before the branch belongs to the run.
    assert current_branch(path) == {1: math.inf, 0: 4}


@pytest.mark.parametrize("attempt", [None, "1", 1.5, -1, [], {}])
def test_an_attempt_without_a_number_is_said(tmp_path, attempt):
    path = tmp_path / "lineage.jsonl"
    append_row(path, {"event": "attempt", "attempt": attempt})
    with pytest.raises(CorruptDataError, match=r"lineage\.jsonl"):
        current_attempt(path)
