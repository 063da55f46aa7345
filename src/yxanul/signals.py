"""What signals ask of a process: to stop when it may, as of a run, or to leave, as of an export.

The first SIGINT or SIGTERM asks a run or a server to stop, and a later one leaves at once. One wish
may come as several signals: a Ctrl-C goes to a launcher and to what it launched, and the launcher
adds a SIGTERM of its own. So only one that comes a second or more later is the second.
"""

import _thread
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

_DELIBERATE_S = 1.0
_LAST_WORDS_S = 2.0

LastWords = Callable[[int, str], None]
"""Writes down an exit code and its reason."""


class StopRequest:
    """Remembers that somebody asked the run to stop."""

    def __init__(self) -> None:
        self.signal_name: str | None = None
        self._asked_at = 0.0
        self._last_words: LastWords | None = None

    @property
    def asked(self) -> bool:
        """Whether a stop was asked for."""
        return self.signal_name is not None

    @contextmanager
    def leaving_word(self, write: LastWords) -> Iterator[None]:
        """Have a second signal inside the block written down before it ends the process."""
        self._last_words = write
        try:
            yield
        finally:
            self._last_words = None

    def _receive(self, number: int, _frame: FrameType | None) -> None:
        now = time.monotonic()
        if self.signal_name is None:
            self.signal_name, self._asked_at = signal.Signals(number).name, now
        elif now - self._asked_at >= _DELIBERATE_S:
            self._leave(number)

    def _leave(self, number: int) -> None:
        """End the process; nothing is flushed, nothing is half renamed."""
        code, name = 128 + number, signal.Signals(number).name  # 130 or 143, as shells count
        try:
            if self._last_words is not None:
                # Where the disk hangs it goes without a word. `threading` would take locks that the
                # code which the signal has interrupted may hold.
                _thread.start_new_thread(leave_after, (_LAST_WORDS_S, code))
                told = f"a second signal, {name}: left at once, what was not saved is done again"
                self._last_words(code, told)
        finally:
            os._exit(code)  # also where the disk took no word


def leave_after(seconds: float, code: int) -> None:
    """End the process with `code` after so many seconds; a thread of its own calls it."""
    time.sleep(seconds)
    os._exit(code)


@contextmanager
def stop_on_signals() -> Iterator[StopRequest]:
    """Turn SIGINT and SIGTERM into a request inside the block."""
    request = StopRequest()
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, request._receive) for number in numbers}
    try:
        yield request
    finally:
        for number, receiver in before.items():
            signal.signal(number, receiver)


@contextmanager
def leaving_on_signals() -> Iterator[None]:
    """Turn SIGTERM and SIGHUP inside the block into an exit, with 128 + their number.

    So the block clears away what it would leave half done; what comes meanwhile, as a SIGHUP does
    after a SIGTERM, is ignored. A signal that is ignored already, as nohup has it, stays so.
    """
    numbers = [
        number
        for number in (signal.SIGTERM, signal.SIGHUP)
        if signal.getsignal(number) is signal.SIG_DFL
    ]

    def leave(number: int, _frame: FrameType | None) -> None:
        for one in numbers:
            signal.signal(one, signal.SIG_IGN)
        raise SystemExit(128 + number)

    for number in numbers:
        signal.signal(number, leave)
    try:
        yield
    finally:
        for number in numbers:
            signal.signal(number, signal.SIG_DFL)
