"""What signals ask of a process: to stop when it may, as of a run, or to leave, as of an export.

The first SIGINT or SIGTERM asks a run or a server to stop, and a later one leaves at once. One wish
may come as several signals: a Ctrl-C goes to a launcher and to what it launched, and the launcher
adds a SIGTERM of its own. So only one that comes a second or more later is the second.
"""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

_STOPPING = (signal.SIGINT, signal.SIGTERM)
_DELIBERATE_S = 1.0
_LAST_WORDS_S = 2.0
_HEARD_BYTES = 64
_SILENCE = 0  # the number of no signal

LastWords = Callable[[int, str], None]
"""Writes down an exit code and its reason."""


class StopRequest:
    """Remembers that somebody asked the run to stop."""

    def __init__(self) -> None:
        self.signal_name: str | None = None
        self._last_words: LastWords | None = None
        self._leaving = threading.Lock()

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
            with self._leaving:  # held for good by who has the last word
                self._last_words = None

    def _receive(self, number: int, _frame: FrameType | None) -> None:
        self.signal_name = self.signal_name or signal.Signals(number).name

    def _listen(self, bell: int) -> None:
        """Leave at a second signal, by when they come: the main thread may long heed none."""
        asked_at = None
        while (heard := os.read(bell, _HEARD_BYTES)) and _SILENCE not in heard:
            now, numbers = time.monotonic(), [number for number in heard if number in _STOPPING]
            if numbers and asked_at is None:
                asked_at = now
            elif numbers and asked_at is not None and now - asked_at >= _DELIBERATE_S:
                self._leave(numbers[-1])

    def _leave(self, number: int) -> None:
        """End the process; nothing is flushed, nothing is half renamed."""
        code, name = 128 + number, signal.Signals(number).name  # 130 or 143, as shells count
        try:
            # Where the disk hangs it goes without a word.
            threading.Thread(target=leave_after, args=(_LAST_WORDS_S, code), daemon=True).start()
            self._leaving.acquire()
            if self._last_words is not None:
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
    bell, rope = os.pipe()
    os.set_blocking(rope, False)
    listener = threading.Thread(target=request._listen, args=(bell,), name="signals", daemon=True)
    listener.start()
    former = signal.set_wakeup_fd(rope, warn_on_full_buffer=False)
    before = {number: signal.signal(number, request._receive) for number in _STOPPING}
    try:
        yield request
    finally:
        for number, receiver in before.items():
            signal.signal(number, receiver)
        signal.set_wakeup_fd(former)
        os.write(rope, bytes([_SILENCE]))  # closed alone, it may be open in a forked child yet
        listener.join()
        os.close(rope)
        os.close(bell)


# A forked child has the handlers: what it is sent must not be heard as sent to its parent.
os.register_at_fork(after_in_child=lambda: signal.set_wakeup_fd(-1))


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
