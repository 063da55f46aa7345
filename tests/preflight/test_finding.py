"""A check ends in time, and one that fails hides no other."""

import errno
import tempfile
import time

import pytest

from yxanul.errors import DiskError, GateStopError, InfrastructureError, UsageError
from yxanul.preflight.finding import Check, Finding, decisive, made_in_turn


def failed(name: str, code: int) -> Finding:
    return Finding(name, "fail", None, "why", code)


def refuse() -> Finding:
    raise DiskError("the disk is full")


def test_what_a_check_raises_is_a_failure_with_its_code():
    found = Check("disk", refuse, 5.0).made()
    assert (found.state, found.code, found.why) == ("fail", 32, "the disk is full")


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), 32, "the disk is full: /scratch could"),
        (OSError(errno.ENOSPC, "No space left on device", "/here"), 32, "is full: /here could"),
        (OSError(errno.EIO, "Input/output error", "/here"), 11, "the disk failed at /here"),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), 11, "out of memory"),
        (OSError(errno.EACCES, "Permission denied", "/here"), UsageError.exit_code, "/here cannot"),
        (OSError(errno.ENOENT, "No usable temporary directory"), 32, "/scratch could not be"),
    ],
)
def test_what_the_system_refuses_a_check_is_a_failure_with_its_code(monkeypatch, error, code, said):
    """A failed write names no file: then it was a temporary one."""
    monkeypatch.setattr(tempfile, "tempdir", "/scratch")

    def refused() -> Finding:
        raise error

    found = Check("step", refused, 5.0).made()
    assert (found.name, found.state, found.code) == ("step", "fail", code)
    assert said in found.why


def test_a_check_that_does_not_answer_is_left():
    begin = time.monotonic()
    found = Check("mirror", lambda: time.sleep(600) or failed("mirror", 1), 0.05).made()
    assert time.monotonic() - begin < 60
    assert (found.state, found.code) == ("fail", InfrastructureError.exit_code)
    assert "no answer within" in found.why


def test_a_bug_is_no_finding():
    with pytest.raises(ZeroDivisionError):
        Check("step", lambda: failed("step", 1 // 0), 5.0).made()


def test_what_no_start_can_cure_decides():
    assert decisive([Finding("disk", "warn", None, "why")]) is None
    hub, cost = failed("data", InfrastructureError.exit_code), failed("cost", 20)
    assert decisive([hub, cost]) is cost
    assert decisive([hub]) is hub
    assert GateStopError.exit_code == cost.code


class Late(Check):
    """Takes the whole limit of all, and tells how long it had itself."""

    def made(self) -> Finding:
        time.sleep(0.1)
        return Finding(self.name, "pass", {"limit_s": self.limit_s}, "loaded what all need")


def test_checks_that_share_a_limit_leave_the_late_ones_a_second():
    checks = [Late(name, refuse, 0.1) for name in ("first", "second")]
    assert [found.value for found in made_in_turn(checks, limit_s=0.1)] == [{"limit_s": 1.0}] * 2
    first, second = made_in_turn(checks, limit_s=60.0)
    assert 1.0 <= second.value["limit_s"] < first.value["limit_s"] <= 60.0
