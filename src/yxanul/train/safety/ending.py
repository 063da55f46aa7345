"""How a run ends is written down, whatever ended it: RUN/exit.json."""

import os
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import Any

from yxanul.errors import (
    CorruptDataError,
    InfrastructureError,
    StoppedOnRequest,
    UsageError,
    YxanulError,
)
from yxanul.hardware.failures import LOOK_AT_CARD
from yxanul.parallel.processes import Processes
from yxanul.runfolder.checkpoints import newest_name
from yxanul.runfolder.durable import refused_path, write_json, writing
from yxanul.runfolder.layout import RunFolder
from yxanul.runfolder.lineage import current_attempt
from yxanul.runfolder.sums import Change, find_changes, forget_sums, write_sums
from yxanul.signals import StopRequest

_PASSING = (StoppedOnRequest.exit_code, InfrastructureError.exit_code)
"""Ends that tell nothing of the run: it may be started again."""


@contextmanager
def owned(
    folder: RunFolder,
    processes: Processes,
    *,
    stop: StopRequest,
    say: Callable[[str], None],
    is_done: Callable[[], bool] = lambda: False,
) -> Iterator[dict[str, Any]]:
    """Lock the folder, and write RUN/exit.json at the end: code, reason, last checkpoint.

    So does a second signal that `stop` receives. What has changed since the run's last end is said.
    A command that is refused leaves the record of the one before, and so does one that is stopped,
    or meets what may pass, where the record tells what it asks for `is_done`: what was reached
    stands there alone. Where the disk takes no record, an error that ends the run stays the one:
    that is said. Only the main rank writes; the others get a record that nobody reads.
    """
    record: dict[str, Any] = {"code": 0, "reason": "done"}
    if not processes.is_main:
        yield record
        return

    def write_last_words(code: int, reason: str) -> None:
        if not is_done():
            write_ending(folder, {"code": code, "reason": reason})

    with folder.locked():
        had_sums, damaged = folder.sums.is_file(), list[Change]()
        try:
            with stop.leaving_word(write_last_words):
                damaged += _forget_sums(folder, say=say)
                yield record
        except BaseException as error:
            record.update(_ending_by(error))
            try:
                is_left = record["code"] in _PASSING and is_done()
                _write_down(folder, record, is_left=is_left, had_sums=had_sums, damaged=damaged)
            except (YxanulError, OSError) as failed:
                say(f"how the run ended is not written down: {failed}")
            raise
        _write_down(folder, record, is_left=False, had_sums=had_sums, damaged=damaged)


def _forget_sums(folder: RunFolder, *, say: Callable[[str], None]) -> list[Change]:
    """Delete RUN/sums.json; say, and return, what is not as the run's last end left it."""
    changes = find_changes(folder)
    for change in changes:
        say(f"changed since the run's last end: {change.told}")
    if changes:
        say(f"bring a good copy back, or delete {folder.sums} after the end to take what is there")
    forget_sums(folder)
    return changes


def _ending_by(error: BaseException) -> dict[str, Any]:
    refused = refused_path(error) if isinstance(error, OSError) else None
    known = refused or error
    if isinstance(known, YxanulError):
        return {"code": known.exit_code, "reason": str(known)}
    return {"code": 1, "reason": f"{type(error).__name__}: {error}"}


def _write_down(
    folder: RunFolder,
    record: dict[str, Any],
    *,
    is_left: bool,
    had_sums: bool,
    damaged: Collection[Change],
) -> None:
    """Write how the command ended, with sums of all but what is `damaged`.

    The record of the one before `is_left` also by one that was refused before it trained or scored:
    it is there until `forget_ending`. The sums are taken anew, if there were any: the run's
    settings and its machine may have been written down by then.
    """
    is_left |= record["code"] == UsageError.exit_code and folder.exit_record.exists()
    if not is_left:
        write_ending(folder, record)
    if not is_left or had_sums:
        write_sums(folder, damaged=damaged)


def forget_ending(folder: RunFolder, processes: Processes) -> None:
    """Delete RUN/exit.json, that of the process before, as this one begins to train or to score.

    It may be killed without a word, and what ends it from here on is how the run has ended.
    """
    if processes.is_main:
        with writing(folder.exit_record):
            folder.exit_record.unlink(missing_ok=True)


def write_ending(folder: RunFolder, record: dict[str, Any]) -> None:
    """Write RUN/exit.json: the record, the last checkpoint, who wrote it and when."""
    more = {"checkpoint": _last_checkpoint(folder), "pid": os.getpid(), "ended_at": time.time()}
    write_json(folder.exit_record, {**record, **more})


MEMORY_ADVICE = (
    "the last checkpoint is whole. Where it comes again: a smaller compute.micro_batch_tokens or "
    "compute.loss_chunk_tokens, compute.gradient_checkpointing, or fewer other programs on this "
    "machine"
)
"""What helps where memory ends under a run."""
CARD_ADVICE = f"the last checkpoint is whole. {LOOK_AT_CARD}"
"""What helps where a card fails under a run."""


def _last_checkpoint(folder: RunFolder) -> str | None:
    try:
        attempt = current_attempt(folder.lineage)
    except CorruptDataError:  # the run has ended with this very error, which must be told
        return None
    return newest_name(folder.checkpoints, attempt=attempt)
