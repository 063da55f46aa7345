"""Checkpoints are written beside the training: a step waits for a copy in memory, not for the disk.

The one idea: what is saved is copied first, so nothing that the next step changes is ever written.
One checkpoint is written at a time. One that the disk refuses is a missed one, which is told, and
the run goes on; after three in a row it ends.
"""

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from yxanul.config.schema import CheckpointConfig
from yxanul.errors import DiskError, InfrastructureError, YxanulError
from yxanul.failpoints import failpoint
from yxanul.runfolder.checkpoints import CheckpointInfo
from yxanul.runfolder.saving import Verified, purge_checkpoints, save_checkpoint, write_latest

MISSED_IN_A_ROW = 3
"""Checkpoints that the disk refused, after which a run ends instead of risking its work."""
_RETRIES_S = (1.0, 4.0)
_FEWEST_KEPT = 2


@dataclass(frozen=True)
class Snapshot:
    """What a checkpoint will hold; its arrays belong to it alone."""

    info: CheckpointInfo
    model: Mapping[str, np.ndarray]
    optimizer: Mapping[str, np.ndarray]
    state: dict[str, Any]


class Saver:
    """Writes the checkpoints of a run, one after the other, in a thread of their own."""

    def __init__(
        self,
        folder: Path,
        settings: CheckpointConfig,
        *,
        say: Callable[[str], None],
        written: Callable[[Path], None],
    ) -> None:
        """Write into `folder`; `written` is called with every checkpoint that is there."""
        self._folder = folder
        self._written = written
        self._keep = settings.keep
        self._say = say
        self._thread: threading.Thread | None = None
        self._error: Exception | None = None
        self._missed = 0
        self._newest: str | None = None
        self._verified = Verified()

    def save(self, snapshot: Snapshot, *, wait: bool) -> None:
        """Write a checkpoint once the one before is written; with `wait`, be back when it is there.

        Raises what `finish` raises, about the one before, or about this one with `wait`: there
        every refusal of the disk is an error, since the run cannot do without that checkpoint.
        """
        self.finish()
        self._thread = threading.Thread(target=self._write, args=(snapshot,), name="checkpoint")
        self._thread.start()
        if wait:
            self._join()
            if self._error is not None:
                raise self._taken_error()

    def finish(self) -> None:
        """Wait for the checkpoint that is being written.

        A full disk is told, and a `DiskError` the third time in a row; a disk that fails is an
        `InfrastructureError`.
        """
        self._join()
        if self._error is None:
            return
        error = self._taken_error()
        if not isinstance(error, DiskError) or self._missed >= MISSED_IN_A_ROW:
            raise error
        self._say(
            f"checkpoint missed ({self._missed} in a row, {MISSED_IN_A_ROW} end the run): {error}"
        )

    @property
    def is_writing(self) -> bool:
        """Whether a checkpoint is being written now."""
        return self._thread is not None and self._thread.is_alive()

    def take_newest(self) -> str | None:
        """Return the name of the checkpoint that was written since the last call; None = none."""
        newest, self._newest = self._newest, None
        return newest

    def close(self) -> None:
        """Wait as `finish` does, while another error is on its way; one of the disk is told."""
        self._join()
        if self._error is not None:
            self._say(f"the last checkpoint was not written: {self._taken_error()}")

    def _join(self) -> None:
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def _taken_error(self) -> Exception:
        error, self._error = self._error, None
        assert error is not None
        return error

    def _write(self, snapshot: Snapshot) -> None:
        try:
            self._write_at_last(snapshot)
            self._missed = 0
            self._newest = snapshot.info.name
            self._written(snapshot.info.path)
            with self._saying("`latest` names an older checkpoint"):
                write_latest(snapshot.info.path)
            with self._saying("old checkpoints stay"):
                self._purge(snapshot.info.attempt, keep=self._keep)
        except DiskError as error:
            self._missed += 1
            self._error = error
        except Exception as error:  # noqa: BLE001  (raised again where the run can act on it)
            self._error = error

    def _write_at_last(self, snapshot: Snapshot) -> None:
        """Write it, trying again after a failure that may pass; room is made on a full disk."""
        for tries, wait_s in enumerate((*_RETRIES_S, None)):
            try:
                failpoint("checkpoint.thread")
                save_checkpoint(
                    self._folder,
                    snapshot.info,
                    model=snapshot.model,
                    optimizer=snapshot.optimizer,
                    state=snapshot.state,
                    is_again=tries > 0,
                )
            except InfrastructureError:
                if wait_s is None:
                    raise
                time.sleep(wait_s)
            except DiskError:
                self._make_room(snapshot.info.attempt)
                raise
            else:
                return

    def _purge(self, attempt: int, *, keep: int) -> None:
        purge_checkpoints(self._folder, attempt=attempt, keep=keep, verified=self._verified)

    @contextmanager
    def _saying(self, what: str) -> Iterator[None]:
        """Tell what the disk refuses in the block: it has taken the new checkpoint all the same."""
        try:
            yield
        except (DiskError, InfrastructureError) as error:
            self._say(f"{what}: {error}")

    def _make_room(self, attempt: int) -> None:
        """Delete what a full disk can do without; the two newest that verify stay."""
        try:
            self._purge(attempt, keep=_FEWEST_KEPT)
        except YxanulError as error:
            self._say(f"no room could be made: {error}")
