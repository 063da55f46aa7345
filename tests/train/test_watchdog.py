"""What takes long and what hangs are told apart by the pieces that end."""

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import pytest

from tests.train.world import World
from yxanul.runfolder.supervised import VARIABLE, read_note
from yxanul.train import loop
from yxanul.train.safety import watchdog
from yxanul.train.safety.watchdog import Watchdog

HANG_S = 0.1  # and six times that for a piece


class Clock:
    """A clock that goes when it is told to: no busy machine makes a hang of it."""

    def __init__(self) -> None:
        self._now_s = 0.0
        self._looks = 0

    def monotonic(self) -> float:
        self._looks += threading.current_thread().name == "watchdog"
        return self._now_s

    def go_on(self, seconds: float, *, is_over: Callable[[], bool]) -> None:
        """Let time pass, and the watchdog look what it is, unless it `is_over`."""
        self._now_s += seconds
        begun = self._looks
        deadline = time.monotonic() + 60
        # The second look is not over, but the first one is.
        while self._looks < begun + 2 and not is_over():
            assert time.monotonic() < deadline
            time.sleep(0.001)


class Watched:
    """A watchdog whose process goes on: its thread stands still where the process would end."""

    def __init__(self, folder: Path, clock: Clock) -> None:
        self._clock = clock
        self.reasons: list[str] = []
        self.stacks = folder / "stacks.txt"
        self.dog = Watchdog(HANG_S, stacks=self.stacks, say=print, end=self._end)

    def go_on(self, seconds: float) -> None:
        """Let time pass, and the watchdog see it."""
        self._clock.go_on(seconds, is_over=lambda: bool(self.reasons))

    def _end(self, reason: str) -> None:
        signal.setitimer(signal.ITIMER_REAL, 0)
        self.reasons.append(reason)
        threading.Event().wait()


@pytest.fixture
def watched(tmp_path, monkeypatch):
    clock = Clock()
    monkeypatch.setattr(watchdog, "time", clock)
    monkeypatch.setattr(watchdog, "leave_after", lambda _seconds, _code: None)
    return Watched(tmp_path, clock)


def test_a_work_of_many_pieces_may_take_long_and_one_piece_may_not(watched):
    with watched.dog, watched.dog.pieces("a score", "the score"):
        for _ in range(8):
            watched.go_on(1.5 * HANG_S)
            watched.dog.advance()
        assert watched.reasons == []
        watched.go_on(14.5 * HANG_S)  # ten times what the longest one took are not over
        assert watched.reasons == []
        watched.go_on(HANG_S)
    assert len(watched.reasons) == 1
    assert watched.reasons[0].startswith("the score did not end within")
    assert "test_watchdog.py" in watched.stacks.read_text()


def test_what_is_watched_by_itself_is_no_part_of_the_piece_around_it(watched):
    with watched.dog, watched.dog.pieces("a score", "the score"):
        with watched.dog.waiting(own_s=10.0):
            watched.go_on(8 * HANG_S)
        watched.go_on(2 * HANG_S)
    assert watched.reasons == []


def test_where_nothing_is_watched_no_piece_ends(watched):
    watched.dog.advance()
    with watched.dog:
        watched.go_on(2 * HANG_S)
    assert watched.reasons == []


def test_a_hang_may_take_longer_than_a_thread_can_wait(tmp_path):
    """Its thread ended without a word, and nothing was watched."""
    before = set(threading.enumerate())
    with Watchdog(1e12, stacks=tmp_path / "stacks", say=print, end=print):
        (thread,) = set(threading.enumerate()) - before
        thread.join(0.3)
        assert thread.is_alive()
    thread.join()


HANGS = """
import sys, time
from pathlib import Path
from yxanul.errors import DiskError
from yxanul.train.safety import watchdog

def refuse(self):
    raise RuntimeError("can't start new thread")

def say(line):
    if "deaf" in kinds:
        time.sleep(60)
    print(line + "\\n", end="", flush=True)  # whole, beside other threads

def end(reason):
    say(f"written down: {reason}")
    raise DiskError("no room for the record")

stacks, last_words_s, *kinds = sys.argv[1:]
watchdog._LAST_WORDS_S = float(last_words_s)
start = watchdog.threading.Thread.start
if "without threads" in kinds:
    watchdog.threading.Thread.start = lambda t: (start if t.name == "watchdog" else refuse)(t)
with watchdog.Watchdog(0.1, stacks=Path(stacks), say=say, end=end) as dog:
    with dog.watching("a checkpoint"):
        time.sleep(60)
"""
HANG = "a checkpoint did not end within some s, so this process was ended"


def told_of_a_hang(
    folder: Path, *kinds: str, code: int = 11, last_words_s: float = 30.0
) -> tuple[str, str]:
    """Return what a process that hangs prints, on stdout and stderr; its supervisor hears why.

    It ends once all is said, or after `last_words_s`, where that hangs as well.
    """
    note = folder / "note"
    done = subprocess.run(
        [sys.executable, "-c", HANGS, str(folder / "stacks"), str(last_words_s), *kinds],
        env={**os.environ, "PYTHONPATH": "src", VARIABLE: str(note)},
        capture_output=True,
        text=True,
        timeout=50,  # sooner than what hangs ends
        check=False,
    )
    assert done.returncode == code, done.stderr
    heard = read_note(note)
    told, reason = (
        re.sub(r"within \d+ s", "within some s", text) for text in (done.stdout, heard["reason"])
    )
    assert (heard["code"], reason) == (11, HANG)
    return told, done.stderr


def test_a_row_that_the_runs_disk_does_not_take_is_watched(tmp_path, monkeypatch):
    watched = []

    def seen(self, kind, what="", *, at_least_s=0.0):
        watched.append(kind)
        return nullcontext()

    def append(path, row):
        watched.append(path.name)

    monkeypatch.setattr(watchdog.Watchdog, "watching", seen)
    monkeypatch.setattr(loop, "append_row", append)
    World.create(tmp_path).finish("run", "run", "--max_steps", "1")
    assert watched[watched.index("metrics.jsonl") - 1] == "a row"


def test_a_hang_is_said_and_written_down_with_the_place_of_its_stacks(tmp_path):
    place = f"{tmp_path / 'stacks'} tells where every thread of it stood"
    told, refused = told_of_a_hang(tmp_path)
    # The reason has a thread of its own.
    assert sorted(told.splitlines()) == sorted([HANG, f"written down: {HANG}; {place}", place])
    assert "no room for the record" in refused
    assert "Thread" in (tmp_path / "stacks").read_text()


def test_a_hang_whose_stacks_cannot_be_written_is_said_and_written_down(tmp_path):
    (tmp_path / "stacks").mkdir()
    told, _ = told_of_a_hang(tmp_path)
    assert HANG in told.splitlines()
    assert f"written down: {HANG}; {tmp_path / 'stacks'} could not be written" in told
    assert "tells where" not in told


@pytest.mark.fault(25)
def test_a_run_whose_own_disk_hangs_leaves_with_11_and_its_supervisor_hears_why(tmp_path):
    """A pipe that nobody reads stands for the disk: who opens it to write waits without end."""
    os.mkfifo(tmp_path / "stacks")
    assert told_of_a_hang(tmp_path, last_words_s=6.0) == (f"{HANG}\n", "")


def test_a_process_that_hangs_leaves_also_where_no_thread_can_be_started(tmp_path):
    os.mkfifo(tmp_path / "stacks")  # a disk that hangs: nothing would end who waits for it
    assert told_of_a_hang(tmp_path, "without threads") == (f"{HANG}\n", "")


@pytest.mark.parametrize(
    ("kinds", "code", "last_words_s"),
    [((), 11, 6.0), (("without threads",), -signal.SIGALRM, 3.0)],  # the alarm takes twice as long
    ids=["threads", "none"],
)
def test_a_process_that_hangs_leaves_also_where_what_it_says_hangs(
    tmp_path, kinds, code, last_words_s
):
    told = told_of_a_hang(tmp_path, "deaf", *kinds, code=code, last_words_s=last_words_s)
    assert told == ("", "")
    assert (tmp_path / "stacks").exists() == (code == 11)
