"""How the last process of a run ended: RUN/exit.json, read for people and programs that watch."""

import json
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from yxanul.errors import InfrastructureError, StoppedOnRequest, UsageError
from yxanul.runfolder.layout import RunFolder

ENDED = {
    0: "ended",
    10: "stopped on request",
    11: "stopped: infrastructure",
    20: "stopped by a gate",
    30: "refused: configuration, or another machine's run",
    31: "stopped: damaged data",
    32: "stopped: disk",
    33: "stopped: numerics",
    130: "interrupted",
    143: "interrupted",
}
"""{exit code: what it means in a few words}; see `yxanul.errors`."""
# Two processes' clocks may differ by so much, on one machine that was set right meanwhile.
_CLOCK_S = 5.0
# Within what a calendar can name.
_LATEST_S = 1e11
FAILED = "failed: internal error"
"""What every other code means."""


@dataclass(frozen=True)
class ExitRecord:
    """What a process wrote down when it ended."""

    code: int
    reason: str
    ended_at: float
    """Seconds since 1970."""
    outcome: Any = None
    """What a run that ended with 0 had reached, as it was written; None: nothing was."""
    pid: int | None = None
    """The id of that process; None: not known."""

    def is_of_an_earlier_process(self, paid_at: float | None) -> bool:
        """Tell whether the run went on after it: `paid_at` is when its newest row was written.

        The last process then was killed, or is at work on another machine.
        """
        return paid_at is not None and paid_at > self.ended_at + _CLOCK_S

    @property
    def may_go_on(self) -> bool:
        """Whether a supervisor starts the run again after it."""
        return self.code in (StoppedOnRequest.exit_code, InfrastructureError.exit_code)

    @property
    def word(self) -> str:
        """The code in a few words."""
        return ENDED.get(self.code, FAILED)


def read_exit(folder: RunFolder) -> ExitRecord | None:
    """Return the record; None without one, and for a damaged one: it decides nothing."""
    try:
        values = json.loads(folder.exit_record.read_text(encoding="utf-8"))
        code, reason, ended_at = values["code"], values["reason"], values["ended_at"]
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return None
    if not (isinstance(code, int) and isinstance(reason, str) and _is_time(ended_at)):
        return None
    pid = values.get("pid")
    return ExitRecord(
        code,
        reason,
        ended_at,
        outcome=values.get("outcome"),
        pid=pid if isinstance(pid, int) else None,
    )


def begun_run(root: Path) -> RunFolder:
    """Return a run folder; what has no settings is none, or none yet: a `UsageError`."""
    folder = RunFolder(root)
    if not root.is_dir():
        raise UsageError(f"{root} is not a folder; name a run folder, e.g. runs/first")
    if folder.is_in_preparation():
        raise UsageError(f"{root} still prepares its data; ask again when it trains")
    if folder.config.is_file():
        return folder
    record = read_exit(folder)
    if record is not None:
        # One that was killed left none, nor did one that was refused after another's end.
        at = datetime.fromtimestamp(record.ended_at, tz=timezone.utc)
        raise UsageError(
            f"{root} has not begun to train; the last start that left word of it left with "
            f"{record.code} at {at:%Y-%m-%d %H:%M} UTC ({record.reason}); heed that, and start it "
            "again"
        )
    raise UsageError(
        f"{root} is no run folder: it has no config.yaml; name the folder that --out named"
    )


def _is_time(value: object) -> bool:
    return isinstance(value, int | float) and 0 <= value < _LATEST_S
