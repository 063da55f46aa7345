"""Attempts: which branch of the run is the truth.

A rollback starts a new attempt from an older checkpoint. The row that says so is durable before the
attempt's first step. Checkpoints of abandoned attempts stay, and are never resumed from unless
named.
"""

from pathlib import Path

from yxanul.errors import CorruptDataError
from yxanul.runfolder.rows import append_row, read_rows


def current_attempt(path: Path) -> int:
    """Return the number of the attempt that was begun last; 0 before the first."""
    rows = [row for row in read_rows(path) if row.get("event") == "attempt"]
    attempt = rows[-1].get("attempt") if rows else 0
    if not isinstance(attempt, int) or attempt < 0:
        raise CorruptDataError(
            f"{path}: the last attempt's number is {attempt!r}; bring a good copy back"
        )
    return attempt


def begin_attempt(path: Path, attempt: int, *, parent: str | None, reason: str) -> None:
    """Record that `attempt` begins from the checkpoint `parent` (null: new weights), and why."""
    row = {"event": "attempt", "attempt": attempt, "parent": parent, "reason": reason}
    append_row(path, row, durable=True)


def record_event(path: Path, event: str, **details: object) -> None:
    """Record what a reader of the run must know: a checkpoint set aside, a verdict acted on."""
    append_row(path, {"event": event, **details}, durable=True)
