"""How a supervised process ended: by what it wrote down, else by its own code.

torchrun turns every exit code into 1, so RUN/exit.json is believed before the code, if the last
program of this start wrote it, and so is what one told its supervisor when it refused to begin.
"""

import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from yxanul.errors import CorruptDataError
from yxanul.runfolder.checkpoints import list_checkpoints
from yxanul.runfolder.exits import read_exit
from yxanul.runfolder.layout import RunFolder
from yxanul.runfolder.rows import read_rows

Found = TypeVar("Found")


@dataclass(frozen=True)
class Ending:
    """The end of one start of the command."""

    code: int
    """The program's exit code; of a process that a signal ended 128 + the signal."""
    reason: str
    is_recorded: bool
    """Whether the program itself wrote down that it ended, and why."""
    step: int | None
    """The run's last step in metrics.jsonl; None before there is one."""
    checkpoints: tuple[str, ...] = ()
    """The names of those that it has: the next start goes on from them, whatever its last step."""
    scores: int = 0
    """Files of scores at its newest checkpoint: between steps, they are what a start comes to."""
    may_hide_a_kill: bool = False
    """Whether an unrecorded 1 may be a launcher's, which leaves so when a process was killed."""
    run_folder: Path | None = None
    """The run folder that this start or an earlier one has come to, if it is there."""
    named: str | None = None
    """The checkpoint from which this start has gone on by name."""
    lived_s: float = 0.0
    """Seconds from its start to its end."""
    is_preparing: bool = False
    """Whether no run had its settings yet, which are written down when its data is prepared."""


def read_ending(
    returncode: int,
    told: Mapping[str, Any],
    *,
    started_at: float,
    lived_s: float = 0.0,
    is_launcher: bool = False,
) -> Ending:
    """Return how the process ended that was started at `started_at` (time.time()).

    `lived_s` are the seconds until then, by a clock that does not jump. `is_launcher` says that it
    was torchrun or one of its kind. A script may have called one: so it is taken where the program
    came to its run. `told` is what the program has told its supervisor.
    """
    place = told.get("run_folder")
    folder = None if place is None else RunFolder(Path(place))
    checkpoints: tuple[str, ...] = _read(folder, _checkpoints, default=())
    end = Ending(
        code=returncode,
        reason=f"left with {returncode}, without a record",
        is_recorded=False,
        step=_read(folder, _last_step, default=None),
        checkpoints=checkpoints,
        scores=_read(folder, partial(_count_scores, at=checkpoints), default=0),
        may_hide_a_kill=is_launcher or "run_folder" in told,
        run_folder=_read(folder, lambda it: it.root if it.root.is_dir() else None, default=None),
        named=told.get("named"),
        lived_s=lived_s,
        is_preparing=not _read(folder, lambda it: it.config.is_file(), default=False),
    )
    record = None if folder is None else read_exit(folder)
    # Of several programs in one script the last may have ended without a record, or have failed
    # beside the run that was done before it. On another machine than the main rank's none is told.
    is_its_own = record is not None and told.get("pid") in (None, record.pid)
    has_failed_later = record is not None and record.code == 0 != returncode and "code" in told
    if record is not None and record.ended_at >= started_at and is_its_own and not has_failed_later:
        return replace(end, code=record.code, reason=record.reason, is_recorded=True)
    if "code" in told:
        return replace(end, code=told["code"], reason=told["reason"], is_recorded=True)
    if returncode < 0:
        name = signal.Signals(-returncode).name
        return replace(end, code=128 - returncode, reason=f"ended by {name}, without a record")
    return end


def _read(folder: RunFolder | None, read: Callable[[RunFolder], Found], *, default: Found) -> Found:
    """Return what `read` finds in a run folder, `default` where the process told of none."""
    try:
        return default if folder is None else read(folder)
    except (OSError, ValueError):  # no folder can have that name, or it may not be read
        return default


def _checkpoints(folder: RunFolder) -> tuple[str, ...]:
    return tuple(path.name for path in list_checkpoints(folder.checkpoints))


def _count_scores(folder: RunFolder, *, at: tuple[str, ...]) -> int:
    """Count the files of scores of these checkpoints: the next start takes others anew."""
    names = tuple(f"{name}-" for name in at)
    return sum(p.name.startswith(names) and p.is_file() for p in folder.scores.rglob("*"))


def _last_step(folder: RunFolder) -> int | None:
    try:
        rows = read_rows(folder.metrics)
    except CorruptDataError:  # the run says so itself, where that is its end
        return None
    step = rows[-1].get("step") if rows else None
    return step if isinstance(step, int) else None
