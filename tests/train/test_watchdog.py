"""What takes long and what hangs are told apart by the pieces that end."""

import faulthandler
import threading
import time
from pathlib import Path

import pytest

from yxanul.train.watchdog import Watchdog

HANG_S = 0.1  # and six times that for a piece


class Watched:
    """A watchdog whose process goes on: its thread stands still where the process would end."""

    def __init__(self, folder: Path) -> None:
        self.reasons: list[str] = []
        self.stacks = folder / "stacks.txt"
        self.dog = Watchdog(HANG_S, stacks=self.stacks, say=print, end=self._end)

    def _end(self, reason: str) -> None:
        faulthandler.cancel_dump_traceback_later()
        self.reasons.append(reason)
        threading.Event().wait()


@pytest.fixture
def watched(tmp_path):
    return Watched(tmp_path)


def test_a_work_of_many_pieces_may_take_long_and_one_piece_may_not(watched):
    with watched.dog, watched.dog.pieces("a score", "the score"):
        for _ in range(8):
            time.sleep(1.5 * HANG_S)
            watched.dog.advance()
        assert watched.reasons == []
        deadline = time.monotonic() + 60
        while not watched.reasons and time.monotonic() < deadline:
            time.sleep(HANG_S)
    assert len(watched.reasons) == 1
    assert watched.reasons[0].startswith("the score did not end within")
    assert "test_watchdog.py" in watched.stacks.read_text()


def test_what_is_watched_by_itself_is_no_part_of_the_piece_around_it(watched):
    with watched.dog, watched.dog.pieces("a score", "the score"):
        with watched.dog.waiting(own_s=10.0):
            time.sleep(8 * HANG_S)
        time.sleep(2 * HANG_S)
    assert watched.reasons == []


def test_where_nothing_is_watched_no_piece_ends(watched):
    watched.dog.advance()
    with watched.dog:
        time.sleep(2 * HANG_S)
    assert watched.reasons == []
