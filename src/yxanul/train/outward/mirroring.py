"""Checkpoints go to an address in a thread of their own; training never waits for it.

The one idea: the newest checkpoint that is due is copied from hard links, so it may be deleted from
the run folder meanwhile. One that is kept for good goes at once, and none of these is left out: a
gate may go back to it on another machine. What an earlier process left comes first. What fails is
tried again, later and later, with the next checkpoint that there is by then; so is an error that
nobody has foreseen, since the thread must outlive it. Who is let in no more is told so once, and
asks again: a run begins where it was let in, and keys that expire are renewed. Where another
machine has gone on with the run, nothing is copied any more, and the run is to end.
"""

import itertools
import os
import random
import shutil
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from yxanul.errors import CorruptCheckpointError, UsageError, YxanulError
from yxanul.runfolder.checkpoints import list_checkpoints, newest_name, read_manifest
from yxanul.runfolder.durable import writing
from yxanul.runfolder.layout import RunFolder
from yxanul.runfolder.lineage import current_attempt
from yxanul.runfolder.mirror import Mirror

_FIRST_WAIT_S, _LONGEST_WAIT_S = 1.0, 300.0
_LONGEST_END_S = 600.0
_LONGEST_LAST_WORDS_S = 60.0
_LOOK_S = 0.1
_LAST_TRIES = 3


@dataclass(frozen=True)
class _Job:
    """A checkpoint that waits."""

    links: Path | None
    """None: it is `_LEFT`."""
    name: str
    is_permanent: bool
    number: int
    """It was offered after all those with a smaller one; below 0: an earlier process wrote it."""


_LEFT = _Job(None, "what an earlier start has left", is_permanent=True, number=-(10**9))
"""To be looked for: that it waits is known, and not yet what it is."""


class Mirroring:
    """Copies checkpoints that it is told of; use it in a `with` block, whose end copies the last.

    Without an address nothing is done.
    """

    def __init__(
        self,
        address: str | None,
        folder: RunFolder,
        *,
        every_s: float,
        say: Callable[[str], None],
        gives_up: Callable[[], bool] = lambda: False,
    ) -> None:
        """Touch nothing yet; `gives_up` tells to leave what is not copied when the block ends."""
        self._address = address
        self._mirror = None if address is None else Mirror(address, folder, say=say)
        self._folder = folder.checkpoints
        self._lineage = folder.lineage
        self._every_s = every_s
        self._say = say
        self._gives_up = gives_up
        self._found: set[str] = set()
        """Checkpoints that were there before this process wrote any."""
        self._waiting: list[_Job] = []
        self._numbers = itertools.count()
        self._changed = threading.Condition()
        self._is_closing = False
        self._last_tries = _LAST_TRIES
        self._thread = threading.Thread(target=self._run, name="mirror", daemon=True)

    def __enter__(self) -> "Mirroring":
        if self._mirror is not None:
            self._found = {path.name for path in list_checkpoints(self._folder)}
            self._waiting += [_LEFT] if self._found else []
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Let the last checkpoint be copied; tell of one that keeps failing or takes long."""
        with self._changed:
            self._is_closing = True
            self._changed.notify()
        begun = time.monotonic()
        while self._thread.is_alive():
            waited_s = time.monotonic() - begun
            if waited_s > _LONGEST_END_S or self._gives_up():
                self._say(
                    f"mirror: {self._address} did not take all checkpoints within "
                    f"{waited_s:.0f} s; what it lacks is in the run folder alone"
                )
                return
            self._thread.join(_LOOK_S)

    @property
    def overtaken(self) -> str | None:
        """What lies at the address instead of this run's copy; None: nothing that was seen."""
        return None if self._mirror is None else self._mirror.overtaken

    def publish_ending(self) -> None:
        """Copy the last rows, how the run ended and its report; tell what fails or takes long.

        Called when the run folder is as it will stay, after the `with` block.
        """
        is_left = self.overtaken is not None or self._thread.is_alive()
        if self._mirror is None or is_left:
            return
        thread = threading.Thread(target=self._copy_ending, args=(self._mirror,), daemon=True)
        thread.start()
        thread.join(_LONGEST_LAST_WORDS_S)
        if thread.is_alive():
            self._say(
                f"mirror: {self._address} did not take the run's last rows within "
                f"{_LONGEST_LAST_WORDS_S:.0f} s"
            )

    def offer(self, checkpoint: Path) -> None:
        """Tell of a checkpoint that has just been written; it takes the place of one that waits.

        Those that are kept for good wait until they are copied. One that the disk has no room to
        hold for copying is told and left.
        """
        if self._mirror is not None and self._thread.is_alive():
            self._take_in(checkpoint, number=next(self._numbers))

    def _take_in(self, checkpoint: Path, *, number: int) -> None:
        """Let a checkpoint wait, before those that are not kept for good if it is."""
        links = self._folder / f".tmp-mirror-{checkpoint.name}"
        try:
            is_permanent = read_manifest(checkpoint)[0].permanent
            _link_all(checkpoint, links)
        except YxanulError as error:
            shutil.rmtree(links, ignore_errors=True)  # copies, where there are no hard links
            self._say(f"mirror: {checkpoint.name} is not copied: {error}")
            return
        with self._changed:
            if any(job.name == checkpoint.name for job in self._waiting):
                return
            waiting = [*self._waiting, _Job(links, checkpoint.name, is_permanent, number)]
            newest = max(waiting, key=_number)
            kept = [job for job in waiting if job.is_permanent or job is newest]
            if self.overtaken is not None:  # the thread has left, or is about to
                kept = []
            self._waiting = sorted(kept, key=lambda job: not job.is_permanent)
            self._changed.notify()
        for job in waiting:
            if job not in kept:
                _unlink(job)

    def _take_in_left(self, lacking: Sequence[Path]) -> None:
        """Let those wait that an earlier process did not copy: kept for good, or the newest."""
        newest = newest_name(self._folder, attempt=current_attempt(self._lineage))
        left = []
        for path in lacking:
            with suppress(YxanulError):  # whoever needs it says what is wrong with it
                is_wanted = path.name == newest or read_manifest(path)[0].permanent
                if is_wanted and path.name in self._found:
                    left.append(path)
        left.sort(key=lambda path: path.name == newest)
        for number, path in enumerate(left, start=-len(left)):
            self._take_in(path, number=number)

    def _do(self, job: _Job) -> None:
        assert self._mirror is not None  # the thread runs for one
        if job.links is None:
            self._take_in_left(self._mirror.lacking())
        else:
            self._mirror.publish(job.links, job.name)

    def _run(self) -> None:
        due = again = time.monotonic()
        wait_s, is_shut_out = _FIRST_WAIT_S, False
        while (job := self._next(due, again=again)) is not None:
            begun = time.monotonic()
            try:
                self._do(job)
                if job.links is not None:
                    # From its beginning on: else a lost machine would cost a copy's time more.
                    due, again, wait_s = begun + self._every_s, begun, _FIRST_WAIT_S
                    is_shut_out = False
            except CorruptCheckpointError as error:  # it would be refused again
                self._say(f"mirror: {job.name} is not copied: {error}")
            except Exception as error:  # noqa: BLE001  (told, and tried again)
                if self.overtaken is not None:
                    self._say(f"mirror: {error}. Nothing is copied any more")
                    self._leave_waiting()
                    return
                is_refusal = isinstance(error, UsageError)
                if not (is_refusal and is_shut_out):
                    self._say(f"mirror: {_sentence(error)}")
                if is_refusal:  # keys that have expired may be renewed; asking often helps nobody
                    wait_s = _LONGEST_WAIT_S
                is_shut_out = is_refusal
                # With jitter: many machines must not come back at the same moment.
                due = again = time.monotonic() + wait_s * random.uniform(0.5, 1.5)
                wait_s = min(2 * wait_s, _LONGEST_WAIT_S)
                self._give_back(job)
            finally:
                if job not in self._waiting:
                    _unlink(job)

    def _leave_waiting(self) -> None:
        with self._changed:
            left, self._waiting = self._waiting, []
        for job in left:
            _unlink(job)

    def _copy_ending(self, mirror: Mirror) -> None:
        for left in reversed(range(_LAST_TRIES)):
            try:
                return mirror.publish_ending()
            except Exception as error:  # noqa: BLE001  (told, and tried again)
                if not left or isinstance(error, UsageError):
                    return self._say(
                        f"mirror: the run's last rows are not there: {_sentence(error)}"
                    )
            time.sleep(_FIRST_WAIT_S)
        return None

    def _next(self, due: float, *, again: float) -> _Job | None:
        """Wait for a checkpoint and until it is due; None when all is done.

        One that is kept for good is due from `again` on, when the storage may be asked again.
        """
        with self._changed:
            while not self._is_closing:
                is_urgent = any(job.is_permanent for job in self._waiting)
                left = (again if is_urgent else due) - time.monotonic()
                if self._waiting and left <= 0:
                    return self._waiting.pop(0)
                # No thread can wait longer at once, and it looks again.
                self._changed.wait(min(left, threading.TIMEOUT_MAX) if self._waiting else None)
            # There may be little time.
            newest = max(self._waiting, key=_number, default=None)
            if newest is not None:
                self._waiting.remove(newest)
            return newest

    def _give_back(self, job: _Job) -> None:
        """Keep a checkpoint that was not copied, unless there is a newer one.

        One that is kept for good waits behind the others: if it is at fault, they go all the same.
        At the end there are a few tries in all, which the newest has first.
        """
        with self._changed:
            is_newest = all(other.number < job.number for other in self._waiting)
            is_wanted, is_last = job.is_permanent or is_newest, self._is_closing
            self._last_tries -= is_last
            is_kept = is_wanted and self._last_tries > 0
            if is_kept:
                self._waiting.append(job)
        if is_last and is_kept:
            time.sleep(_FIRST_WAIT_S)
        elif is_last and is_wanted:
            self._say(f"mirror: {job.name} is not copied, and is in the run folder alone")


def _sentence(error: Exception) -> str:
    """Return an error's own sentence, or what there is of one that was not foreseen."""
    return str(error) if isinstance(error, YxanulError) else f"{type(error).__name__}: {error}"


def _number(job: _Job) -> int:
    return job.number


def _unlink(job: _Job) -> None:
    if job.links is not None:
        shutil.rmtree(job.links, ignore_errors=True)


def _link_all(folder: Path, links: Path) -> None:
    with writing(links):
        shutil.rmtree(links, ignore_errors=True)
        links.mkdir()
        for file in folder.iterdir():
            _link(file, links / file.name)


def _link(file: Path, link: Path) -> None:
    try:
        os.link(file, link)
    except OSError:  # not every file system knows hard links
        shutil.copyfile(file, link)
