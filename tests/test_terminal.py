"""Work goes on when nobody can be told of it any more."""

import os
import pty
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.needs import FULL_DISK
from yxanul.terminal import outliving_terminal

TALKS = """
import pathlib, sys, time
from rich.console import Console
from yxanul.terminal import outliving_terminal
with outliving_terminal():
    print("ready", flush=True)
    sys.stdin.readline()
    for _ in range(3):
        print("news", file=sys.stderr, flush=True)
        Console(stderr=True).print("more news")
        print("a result", flush=True)
pathlib.Path(sys.argv[1]).write_text("done")
"""


def talking(out: Path, **streams: int) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-c", TALKS, str(out)],
        stdin=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": "src"},
        start_new_session=True,
        **streams,
    )


def test_a_process_whose_terminal_is_gone_works_on(tmp_path):
    terminal, end = pty.openpty()
    process = talking(tmp_path / "out", stdout=end, stderr=end)
    os.close(end)
    assert b"ready" in os.read(terminal, 100)
    os.close(terminal)  # as sshd does: from now on every write fails
    process.communicate(b"go on\n", timeout=60)
    assert process.returncode == 0
    assert (tmp_path / "out").read_text() == "done"


CLOSED = """
import os, sys
from rich.console import Console
from yxanul.cli.output import say
from yxanul.terminal import (
    has_room_for_bar, heeding_readers, open_closed_streams, outliving_terminal
)
open_closed_streams()
for number in range(3):
    assert os.fstat(number)  # no file that is opened later takes it
for way in (heeding_readers, outliving_terminal):
    with way():
        say("news")
        assert not has_room_for_bar(Console(stderr=True))
        print("a result", flush=True)
assert sys.stdin.read() == ""
"""


@pytest.mark.parametrize("closed", ["2>&-", ">&-", "2>&- >&-", "<&-", "<&- >&- 2>&-"])
def test_streams_that_were_closed_before_the_start_lead_nowhere(closed):
    done = subprocess.run(
        ["/bin/sh", "-c", f'exec "$@" {closed}', "sh", sys.executable, "-c", CLOSED],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        env={**os.environ, "PYTHONPATH": "src"},
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == (b"" if " >&-" in f" {closed}" else b"a result\n" * 2)


def test_a_process_whose_pipe_is_closed_works_on(tmp_path):
    process = talking(tmp_path / "out", stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout.readline() == b"ready\n"
    process.stdout.close()
    process.stderr.close()
    process.stdin.write(b"go on\n")
    process.stdin.close()
    assert process.wait(timeout=60) == 0
    assert (tmp_path / "out").read_text() == "done"


@FULL_DISK
def test_a_log_on_a_full_disk_loses_its_lines_alone(monkeypatch):
    with Path("/dev/full").open("w") as full:
        monkeypatch.setattr(sys, "stderr", full)
        with outliving_terminal():
            print("lost", file=sys.stderr, flush=True)
            assert os.fstat(sys.stderr.fileno()).st_rdev == Path("/dev/full").stat().st_rdev
        with pytest.raises(OSError, match="No space left"):
            full.flush()
        os.dup2(os.open(os.devnull, os.O_WRONLY), full.fileno())


@FULL_DISK
def test_a_result_that_a_full_disk_does_not_take_is_an_error(monkeypatch):
    with Path("/dev/full").open("w") as full:
        monkeypatch.setattr(sys, "stdout", full)
        with outliving_terminal(), pytest.raises(OSError, match="No space left"):
            print("a result", flush=True)
        os.dup2(os.open(os.devnull, os.O_WRONLY), full.fileno())


def test_signals_and_streams_are_what_they_were():
    before = signal.getsignal(signal.SIGHUP), sys.stdout, sys.stderr
    with outliving_terminal():
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
        assert sys.stderr.isatty() is before[2].isatty()
    assert (signal.getsignal(signal.SIGHUP), sys.stdout, sys.stderr) == before
