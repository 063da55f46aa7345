"""What a check found: it passes, is worth a warning, or is a reason not to begin.

The one idea: a check is a function without arguments that returns its `Finding`. What it raises on
purpose, and no answer in time, is a finding as well, so one check that fails hides no other.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from yxanul.errors import InfrastructureError, YxanulError

State = Literal["pass", "warn", "fail"]


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
        try:
            return _within(self.limit_s, self.look)
        except YxanulError as error:
            return Finding(self.name, "fail", None, str(error), error.exit_code)


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


def _within(limit_s: float, look: Callable[[], Finding]) -> Finding:
    """Return what `look` returns, or raise what it raises, or that it takes too long."""
    found: list[Finding] = []
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
