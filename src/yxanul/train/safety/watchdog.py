"""A thread that notices when nothing happens any more, and ends the process then.

The one idea: a hung collective or kernel never raises, so somebody else must look at the clock.
Before the end every thread's stack is written down, since that tells where it hung. A process that
itself stood still (a suspended machine, SIGSTOP) is no hang: the time is told and not counted.
"""

import faulthandler
import os
import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from yxanul.errors import InfrastructureError
from yxanul.runfolder.durable import disk_error
from yxanul.runfolder.supervised import tell_supervisor
from yxanul.signals import leave_after

_LOOKS = 20  # so many in the time that a hang takes to be one
_PATIENCE = 10.0
"""A step may take so many times what the longest one took, and so may others of a kind."""
_FIRST_PATIENCE = 6.0  # the first one compiles
_STOOD_STILL_S = 5.0
_LAST_WORDS_S = 30.0


@dataclass
class _Watched:
    kind: str
    what: str
    since: float
    """time.monotonic() of its beginning, moved on by the time that the process stood still."""
    at_least_s: float


class Watchdog:
    """Watches what is done inside `watching`; use it in a `with` block.

    `hang_s` seconds without an end are a hang; None = nothing is watched. `end` is called with the
    reason before the process leaves with 11, and must not wait for other threads.
    """

    def __init__(
        self,
        hang_s: float | None,
        *,
        stacks: Path,
        say: Callable[[str], None],
        end: Callable[[str], None],
    ) -> None:
        self._hang_s = hang_s
        self._stacks = stacks
        self._say = say
        self._end = end
        self._watched: _Watched | None = None
        self._longest_s: dict[str, float] = {}
        self._closed = threading.Event()

    def __enter__(self) -> "Watchdog":
        if self._hang_s is not None:
            threading.Thread(target=self._look, name="watchdog", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closed.set()

    @contextmanager
    def watching(self, kind: str, what: str = "", *, at_least_s: float = 0.0) -> Iterator[None]:
        """Watch the block: one of a kind, which may be told more exactly.

        `at_least_s` seconds it may take in any case.
        """
        begun = time.monotonic()
        watched = _Watched(kind, what or kind, begun, at_least_s)
        before, self._watched = self._watched, watched
        try:
            yield
        finally:
            self._remember(watched)
            if before is not None:
                before.since += time.monotonic() - begun  # it was watched by itself
            self._watched = before

    def pieces(self, kind: str, what: str) -> AbstractContextManager[None]:
        """Watch a work of pieces, or of one; between two of them `advance` is called.

        Each has the patience of a first one always: pieces of one work may differ much.
        """
        return self.watching(kind, what, at_least_s=(self._hang_s or 0.0) * _FIRST_PATIENCE)

    def advance(self) -> None:
        """Hear that a piece of what is watched, if anything is, has ended, and another begins."""
        watched = self._watched
        if watched is not None:
            self._remember(watched)
            watched.since = time.monotonic()

    def waiting(self, own_s: float) -> AbstractContextManager[None]:
        """Watch the wait for other ranks' parts of a work whose own part took so many seconds.

        It has the patience of a first one always: the own part may have been empty.
        """
        patience_s = max(own_s * _PATIENCE, (self._hang_s or 0.0) * _FIRST_PATIENCE)
        return self.watching("another rank's part of a score", at_least_s=patience_s)

    def _remember(self, watched: _Watched) -> None:
        took = time.monotonic() - watched.since
        self._longest_s[watched.kind] = max(took, self._longest_s.get(watched.kind, 0.0))

    def _limit_s(self, watched: _Watched) -> float:
        """Return the seconds that it may take."""
        assert self._hang_s is not None  # asked for by the thread alone
        longest = self._longest_s.get(watched.kind)
        if longest is None:
            return max(self._hang_s * _FIRST_PATIENCE, watched.at_least_s)
        return max(self._hang_s, longest * _PATIENCE, watched.at_least_s)

    def _look(self) -> None:
        assert self._hang_s is not None
        # No thread can wait longer at once.
        pause, last = min(self._hang_s / _LOOKS, threading.TIMEOUT_MAX), time.monotonic()
        while not self._closed.wait(pause):
            now, watched = time.monotonic(), self._watched
            still_s = now - last - pause
            last = now
            if still_s > max(_STOOD_STILL_S, pause):
                self._say(f"this process stood still for {still_s:.0f} s, and goes on")
                if watched is not None:
                    watched.since += still_s
            elif watched is not None and now - watched.since > self._limit_s(watched):
                self._leave(watched, now)

    def _leave(self, watched: _Watched, now: float) -> None:
        reason = (
            f"{watched.what} did not end within {now - watched.since:.0f} s, so this process was "
            "ended"
        )
        code = InfrastructureError.exit_code
        # Ends it where all below hangs: it needs no thread, and no lock of Python, which a thread
        # that hangs may hold.
        signal.setitimer(signal.ITIMER_REAL, 2 * _LAST_WORDS_S)
        try:
            with _seen_whole():
                tell_supervisor(code=code, reason=reason)
            # The run's disk may be what hangs: the process goes without its last words, too.
            ending = _begun(leave_after, _LAST_WORDS_S, code)
            # The reason is said whatever that disk does, and what takes it may hang as well.
            saying = _begun(self._say, reason) if ending else None
            if saying is not None:
                self._write_down(reason)
                saying.join()
            else:  # nothing that needs the disk may be tried
                self._say(reason)
        finally:
            # No exit handlers: they would wait for the thread that hangs.
            os._exit(code)

    def _write_down(self, reason: str) -> None:
        """Write the stacks, and `end` the run, each whatever becomes of the other; say of both."""
        try:
            with self._stacks.open("w", encoding="utf-8") as file:
                file.write(f"{reason}\n\n")
                file.flush()
                faulthandler.dump_traceback(file, all_threads=True)
            told = f"{self._stacks} tells where every thread of it stood"
        except OSError as error:
            told = str(disk_error(error, self._stacks))
        with _seen_whole():
            self._end(f"{reason}; {told}")
        self._say(told)


@contextmanager
def _seen_whole() -> Iterator[None]:
    """Print what goes wrong in the block (a full disk, say), and go on behind it."""
    try:
        yield
    except Exception:  # noqa: BLE001  (whatever it is, the process is left with its reason said)
        traceback.print_exc()


def _begun(work: Callable[..., None], *words: object) -> threading.Thread | None:
    """Begin work that the process does not wait for; None: no further thread can be started."""
    thread = threading.Thread(target=work, args=words, daemon=True)
    try:
        thread.start()
    except RuntimeError:
        return None
    return thread
