"""Checkpoints go to an address in a thread of their own; training never waits for it.

The one idea: the newest checkpoint that is due is copied from hard links, so it may be deleted from
the run folder meanwhile. What fails is tried again, later and later, with the next checkpoint that
there is by then, an error that nobody has foreseen as well: the thread must outlive it. Who is not
let in says so once and stays away.
"""

import os
import random
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path

from yxanul.errors import UsageError, YxanulError
from yxanul.runfolder.durable import writing
from yxanul.runfolder.layout import RunFolder
from yxanul.runfolder.mirror import Mirror

_FIRST_WAIT_S, _LONGEST_WAIT_S = 1.0, 300.0
_LONGEST_END_S = 600.0
_LONGEST_LAST_WORDS_S = 60.0
_LAST_TRIES = 3


class Mirroring:
    """Copies checkpoints that it is told of; use it in a `with` block, whose end copies the last.

    Without an address nothing is done.
    """

    def __init__(
        self, address: str | None, folder: RunFolder, *, every_s: float, say: Callable[[str], None]
    ) -> None:
        self._address = address
        self._mirror = None if address is None else Mirror(address, folder)
        self._folder = folder.checkpoints
        self._every_s = every_s
        self._say = say
        self._offered: tuple[Path, str] | None = None
        self._changed = threading.Condition()
        self._is_closing = False
        self._is_refused = False
        self._thread = threading.Thread(target=self._run, name="mirror", daemon=True)

    def __enter__(self) -> "Mirroring":
        if self._mirror is not None:
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Let the last checkpoint be copied; one that fails or takes long now is told and left."""
        with self._changed:
            self._is_closing = True
            self._changed.notify()
        if self._mirror is not None:
            self._thread.join(_LONGEST_END_S)
            if self._thread.is_alive():
                self._say(
                    f"mirror: {self._address} did not take the last checkpoint within "
                    f"{_LONGEST_END_S:.0f} s; it is in the run folder alone"
                )

    def publish_ending(self) -> None:
        """Copy the last rows, how the run ended and its report; tell what fails or takes long.

        Called when the run folder is as it will stay, after the `with` block.
        """
        if self._mirror is None or self._is_refused or self._thread.is_alive():
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

        One that the disk has no room to hold for copying is told and left.
        """
        if self._mirror is None or not self._thread.is_alive():
            return
        links = self._folder / f".tmp-mirror-{checkpoint.name}"
        try:
            _link_all(checkpoint, links)
        except YxanulError as error:
            self._say(f"mirror: {checkpoint.name} is not copied: {error}")
            return
        with self._changed:
            old, self._offered = self._offered, (links, checkpoint.name)
            self._changed.notify()
        if old is not None:
            shutil.rmtree(old[0], ignore_errors=True)

    def _run(self) -> None:
        due, wait_s = time.monotonic(), _FIRST_WAIT_S
        while (job := self._next(due)) is not None:
            links, name = job
            try:
                assert self._mirror is not None  # the thread runs for one
                self._mirror.publish(links, name)
                due, wait_s = time.monotonic() + self._every_s, _FIRST_WAIT_S
            except UsageError as error:
                self._say(f"mirror: {error}. Nothing is copied any more; the run goes on")
                self._is_refused = True
                return
            except Exception as error:  # noqa: BLE001  (told, and tried again)
                # With jitter: many machines must not come back at the same moment.
                pause = wait_s * random.uniform(0.5, 1.5)
                due, wait_s = time.monotonic() + pause, min(2 * wait_s, _LONGEST_WAIT_S)
                self._say(f"mirror: {_sentence(error)}")
                self._give_back(job)
            finally:
                if self._offered is None or self._offered[0] != links:
                    shutil.rmtree(links, ignore_errors=True)

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

    def _next(self, due: float) -> tuple[Path, str] | None:
        """Wait for a checkpoint and until it is due; None when all is done."""
        with self._changed:
            while not self._is_closing:
                left = due - time.monotonic()
                if self._offered is not None and left <= 0:
                    break
                self._changed.wait(None if self._offered is None else left)
            job, self._offered = self._offered, None
            return job

    def _give_back(self, job: tuple[Path, str]) -> None:
        """Keep a checkpoint that was not copied, unless there is a newer one or no more time."""
        with self._changed:
            if self._offered is None and not self._is_closing:
                self._offered = job


def _sentence(error: Exception) -> str:
    """Return an error's own sentence, or what there is of one that was not foreseen."""
    return str(error) if isinstance(error, YxanulError) else f"{type(error).__name__}: {error}"


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
