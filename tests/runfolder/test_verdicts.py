"""A decision counts when its verdict row is whole; half of one is written again."""

import errno
import fcntl
import os

import pytest

from yxanul.errors import CorruptDataError, UsageError
from yxanul.runfolder.decisions import override_verdict
from yxanul.runfolder.layout import RunFolder
from yxanul.runfolder.lineage import AttemptStart, begin_attempt
from yxanul.runfolder.rows import append_row, read_rows
from yxanul.runfolder.verdicts import (
    PLATEAU,
    all_verdicts,
    find_plateau,
    read_checks,
    read_verdicts,
    write_decision,
)


def verdict(stage: str, step: int, attempt: int, word: str) -> dict:
    row = {"stage": stage, "step": step, "attempt": attempt, "verdict": word, "why": "a test"}
    return {**row, "bpb_before": None, "bpb_after": {"a": 1.0}}


CHECKS = [{"id": "G0", "subject": None, "result": "pass"}, {"id": "G2", "subject": "a"}]


@pytest.fixture
def folder(tmp_path):
    folder = RunFolder(tmp_path)
    begin_attempt(folder.lineage, AttemptStart(0, step=0, parent=None, reason="a test"))
    return folder


def test_a_decision_comes_back_with_its_checks(folder):
    write_decision(folder, verdict("s1", 8, 0, "pass"), checks=CHECKS)
    write_decision(folder, verdict("s2", 16, 0, "warn"), checks=CHECKS[:1])
    found = read_verdicts(folder)
    assert [found[stage]["verdict"] for stage in ("s1", "s2")] == ["pass", "warn"]
    assert [check["id"] for check in read_checks(folder, found["s1"])] == ["G0", "G2"]
    assert len(read_checks(folder, found["s2"])) == 1


def test_check_rows_without_a_verdict_do_not_count_and_are_written_again(folder):
    write_decision(folder, verdict("s1", 8, 0, "pass"), checks=CHECKS)
    append_row(folder.gates, {"row": "check", "stage": "s2", "attempt": 0, "step": 16, **CHECKS[0]})
    assert list(read_verdicts(folder)) == ["s1"]
    write_decision(folder, verdict("s2", 16, 0, "pass"), checks=CHECKS)
    assert len(read_rows(folder.gates)) == 6


def test_only_the_branch_counts_and_every_attempt_is_kept(folder):
    write_decision(folder, verdict("s1", 8, 0, "pass"), checks=[])
    write_decision(folder, verdict("s2", 16, 0, "rollback"), checks=[])
    parent = "step-00000008-a0"
    begin_attempt(folder.lineage, AttemptStart(1, step=8, parent=parent, reason="a test"))
    assert list(read_verdicts(folder)) == ["s1"]
    write_decision(folder, verdict("s2", 16, 1, "pass"), checks=[])
    assert read_verdicts(folder)["s2"]["verdict"] == "pass"
    assert [row["verdict"] for row in all_verdicts(folder)] == ["pass", "rollback", "pass"]


def test_a_verdict_that_is_no_word_of_ours_is_named_by_line(folder):
    append_row(folder.gates, {"row": "verdict", **verdict("s1", 8, 0, "stopp")})
    with pytest.raises(CorruptDataError, match="line 1: verdict"):
        read_verdicts(folder)


def test_a_verdict_without_its_keys_is_named_by_line(folder):
    append_row(folder.gates, {"row": "verdict", "stage": "s1"})
    with pytest.raises(CorruptDataError, match="line 1"):
        read_verdicts(folder)


def test_a_person_decides_otherwise_and_the_verdict_stays_as_it_was_written(folder):
    write_decision(folder, verdict("s1", 8, 0, "stop"), checks=CHECKS)
    before = folder.gates.read_text()
    override_verdict(folder, "s1", decided="pass", by="Ada", reason="the margin was too tight")
    assert folder.gates.read_text().startswith(before)
    counts = read_verdicts(folder)["s1"]
    assert (counts["verdict"], counts["gate_verdict"]) == ("pass", "stop")
    assert counts["why"].startswith("Ada decided so: the margin was too tight (the gate had said")
    assert [row["verdict"] for row in all_verdicts(folder)] == ["stop"]


@pytest.mark.parametrize(
    ("stage", "decided", "reason", "named"),
    [
        ("s1", "pass", " ", "--reason"),
        ("s1", "stop", "why not", "pass, extend, rollback"),
        ("s0", "pass", "why not", "last judged on s1"),
    ],
)
def test_a_decision_without_sense_is_refused(folder, stage, decided, reason, named):
    write_decision(folder, verdict("s0", 4, 0, "pass"), checks=[])
    write_decision(folder, verdict("s1", 8, 0, "stop"), checks=[])
    with pytest.raises(UsageError, match=named):
        override_verdict(folder, stage, decided=decided, by="Ada", reason=reason)


def test_nothing_is_decided_where_it_cannot_be_asked_whether_the_run_goes_on(folder, monkeypatch):
    """A mount without locks of a disk on which another machine trains."""

    def refuse(*_):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    write_decision(folder, verdict("s1", 8, 0, "stop"), checks=[])
    with folder.locked():
        pass
    monkeypatch.setattr(fcntl, "flock", refuse)
    before = folder.gates.read_bytes()
    with pytest.raises(UsageError, match="cannot lock a file"):
        override_verdict(folder, "s1", decided="pass", by="Ada", reason="why not")
    assert folder.gates.read_bytes() == before


def test_what_the_run_has_left_behind_cannot_be_decided_again(folder):
    write_decision(folder, verdict("s1", 8, 0, "pass"), checks=[])
    append_row(folder.metrics, {"step": 9, "attempt": 0, "stage": "s2"})
    with pytest.raises(UsageError, match="has gone on"):
        override_verdict(folder, "s1", decided="rollback", by="Ada", reason="second thoughts")


def test_a_plateau_row_is_no_verdict(folder):
    row = {"stage": "s1", "attempt": 0, "step": 6, "verdict": "extend", "why": "still falls"}
    write_decision(folder, row, checks=CHECKS[:1], kind=PLATEAU)
    assert read_verdicts(folder) == {}
    found = find_plateau(folder, "s1", attempt=0, step=6)
    assert found is not None
    assert found["verdict"] == "extend"
    assert len(read_checks(folder, found)) == 1
    assert find_plateau(folder, "s1", attempt=1, step=6) is None


def test_a_row_of_an_unknown_kind_is_damage(folder):
    append_row(folder.gates, {"row": "verdcit", **verdict("s1", 8, 0, "pass")})
    with pytest.raises(CorruptDataError, match="line 1: row"):
        read_verdicts(folder)
