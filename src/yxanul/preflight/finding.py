"""What a check found: it passes, is worth a warning, or is a reason not to begin.

The one idea: a check is a function without arguments that returns its `Finding`. What it raises on
purpose, what the system refuses it, and no answer in time, are findings as well, so one check that
fails hides no other.
"""

from __future__ import annotations

import os
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeVar

from yxanul.errors import BrokenDiskError, InfrastructureError, YxanulError
from yxanul.hardware.memory import exhaustion, is_out_of_memory
from yxanul.runfolder.durable import disk_error, refused_path

State = Literal["pass", "warn", "fail"]
Found = TypeVar("Found")
MAKE_ROOM = "stop other programs on this machine, or take one with more memory"
"""What helps where memory is gone before anything of the run has taken any."""


@dataclass(frozen=True)
class Finding:
    """The result of one check."""

    name: str
    state: State
    value: dict[str, Any] | None
    """What was measured, by name with its unit; None where nothing was, and `why` says so."""
    why: str
    """One sentence for a person."""
    code: int = 0
    """The exit code that a failure asks for."""

    def as_json(self) -> dict[str, Any]:
        """Return the finding as `yxanul preflight --json` prints it."""
        return {"name": self.name, "state": self.state, "value": self.value, "why": self.why}


@dataclass(frozen=True)
class Check:
    """A check that is still to be made, and how long it may take."""

    name: str
    look: Callable[[], Finding]
    limit_s: float

    def made(self) -> Finding:
        """Return what it finds; never raises for what the machine or the network does."""
        return attempted(self.name, self.look, limit_s=self.limit_s)


def attempted(name: str, look: Callable[[], Found], *, limit_s: float) -> Found | Finding:
    """Return what `look` returns, or a failure of that name where it raises or takes too long."""
    try:
        return _within(limit_s, look)
    except (YxanulError, OSError) as error:
        return failure(name, error)
    except (MemoryError, RuntimeError) as error:  # of a card that others fill, too
        if not is_out_of_memory(error):
            raise
        return failure(name, exhaustion(error, MAKE_ROOM))


def failure(name: str, error: YxanulError | OSError) -> Finding:
    """Return the failure that an error of a check is, with the code of its kind."""
    told = _refusal(error) if isinstance(error, OSError) else error
    return Finding(name, "fail", None, str(told), told.exit_code)


def made_in_turn(checks: Sequence[Check], *, limit_s: float) -> list[Finding]:
    """Make checks that share one limit: the first may load what all of them need.

    What comes too late for it gets a second.
    """
    until = time.monotonic() + limit_s
    return [replace(check, limit_s=max(1.0, until - time.monotonic())).made() for check in checks]


def decisive(findings: Sequence[Finding]) -> Finding | None:
    """Return the failure that decides the exit code; None: nothing failed.

    What another start cannot cure comes before what it may, for then no start helps.
    """
    failures = [finding for finding in findings if finding.state == "fail"]
    lasting = [finding for finding in failures if finding.code != InfrastructureError.exit_code]
    return next(iter(lasting + failures), None)


def _refusal(error: OSError) -> YxanulError:
    """Return what the system refused as an error of ours."""
    if is_out_of_memory(error):
        return exhaustion(error, MAKE_ROOM)
    # A failed write names no file: a check writes temporary ones, where there is a folder for them.
    place = Path(os.fsdecode(error.filename or tempfile.tempdir or "TMPDIR"))
    told = disk_error(error, place)
    if error.filename is None or isinstance(told, BrokenDiskError):
        return told
    return refused_path(error) or told


def _within(limit_s: float, look: Callable[[], Found]) -> Found:
    """Return what `look` returns, or raise what it raises, or that it takes too long."""
    found: list[Found] = []
    raised: list[Exception] = []

    def run() -> None:
        try:
            found.append(look())
        except Exception as error:  # noqa: BLE001  (raised again by whoever waits)
            raised.append(error)

    # A daemon: a disk or an address that never answers must not keep the program from ending.
    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(limit_s)
    if raised:
        raise raised[0]
    if not found:
        raise InfrastructureError(f"no answer within {limit_s:.0f} s, so it was left")
    return found[0]
