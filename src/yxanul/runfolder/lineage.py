"""Attempts: which branch of the run is the truth.

A rollback starts a new attempt from an older checkpoint. The row that says so is durable before the
attempt's first step. Checkpoints of abandoned attempts stay, and are never resumed from unless
named.
"""

import math
from pathlib import Path

from yxanul.errors import CorruptDataError
from yxanul.runfolder.checkpoints import CHECKPOINT_NAME
from yxanul.runfolder.rows import Row, append_row, read_rows


def current_attempt(path: Path) -> int:
    """Return the number of the attempt that was begun last; 0 before the first."""
    attempt = _last_attempt(path).get("attempt", 0)
    if not isinstance(attempt, int) or attempt < 0:
        raise CorruptDataError(
            f"{path}: the last attempt's number is {attempt!r}; bring a good copy back"
        )
    return attempt


def attempt_parent(path: Path) -> str | None:
    """Return the checkpoint from which the last attempt was begun; None: from new weights."""
    parent = _last_attempt(path).get("parent")
    return parent if isinstance(parent, str) else None


def current_branch(path: Path) -> dict[int, float]:
    """Return {attempt: last step of it that belongs to the run}: the current one and its ancestors.

    What an ancestor did before it was left is part of the run's history, what it did later is not.
    """
    begun = {row.get("attempt"): row.get("parent") for row in _attempts(path)}
    attempt, limit = current_attempt(path), math.inf
    branch: dict[int, float] = {}
    while attempt not in branch:
        branch[attempt] = limit
        match = CHECKPOINT_NAME.fullmatch(str(begun.get(attempt)))
        if match:
            attempt, limit = int(match[2]), min(limit, int(match[1]))
    return branch


def tokens_spent_before(path: Path) -> int:
    """Return the tokens that had been spent when the last attempt began."""
    spent = _last_attempt(path).get("tokens_spent", 0)
    return spent if isinstance(spent, int) else 0


def first_parent(path: Path) -> str | None:
    """Return what the run's first attempt was begun from; None: new weights, or no run yet."""
    parent = next(iter(_attempts(path)), {}).get("parent")
    return parent if isinstance(parent, str) else None


def begin_attempt(
    path: Path, attempt: int, *, parent: str | None, reason: str, tokens_spent: int = 0
) -> None:
    """Record that `attempt` begins from the checkpoint `parent` (null: new weights), and why."""
    row = {"event": "attempt", "attempt": attempt, "parent": parent, "reason": reason}
    row["tokens_spent"] = tokens_spent
    append_row(path, row, durable=True)


def record_event(path: Path, event: str, **details: object) -> None:
    """Record what a reader of the run must know: a checkpoint set aside, a verdict acted on."""
    append_row(path, {"event": event, **details}, durable=True)


def _attempts(path: Path) -> list[Row]:
    return [row for row in read_rows(path) if row.get("event") == "attempt"]


def _last_attempt(path: Path) -> Row:
    return next(reversed(_attempts(path)), {})
