"""Attempts: which branch of the run is the truth.

A rollback starts a new attempt from an older checkpoint. The row that says so is durable before the
attempt's first step. Checkpoints of abandoned attempts stay, and are never resumed from unless
named.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from yxanul.errors import CorruptDataError
from yxanul.runfolder.checkpoints import CHECKPOINT_NAME, checkpoint_name
from yxanul.runfolder.rows import Row, append_row, read_rows

ATTEMPT, GATE, DIVERGED, SET_ASIDE = "attempt", "gate registered", "diverged", "set aside"
BY_NAME = "resumed by name"
"""Why an attempt begins from a checkpoint that a person named; an event where none had to begin."""
BROUGHT, BEGUN_AGAIN = "brought from the mirror", "begun again"
"""Events after which earlier rows, of other files as well, tell of no checkpoint that is lost."""
SETTINGS = "settings"
"""The event that tells what a start wrote to config.yaml, and what it had been."""


def has_begun(path: Path) -> bool:
    """Tell whether a run has begun, by its lineage: a start that trained nothing leaves none."""
    return bool(read_rows(path))


def is_readable(path: Path) -> bool:
    """Tell whether a lineage is whole, or not there; a damaged one is of a run that has begun."""
    try:
        all_attempts(path)
    except CorruptDataError:
        return False
    return True


def current_attempt(path: Path) -> int:
    """Return the number of the attempt that was begun last; 0 before the first."""
    attempt: int = _last_attempt(path).get("attempt", 0)
    return attempt


def attempt_parent(path: Path) -> str | None:
    """Return the checkpoint from which the last attempt was begun; None: from new weights."""
    parent = _last_attempt(path).get("parent")
    return parent if isinstance(parent, str) else None


def current_branch(path: Path) -> dict[int, float]:
    """Return the branch that the run stands on, as `branch_of` does."""
    return branch_of(path, current_attempt(path))


def branch_of(path: Path, attempt: int, *, step: float = math.inf) -> dict[int, float]:
    """Return {attempt: last step of it that belongs to the branch}: `attempt` and its ancestors.

    What an ancestor did before it was left is part of the run's history, what it did later is not;
    so it is with what `attempt` did after `step`.
    """
    begun = {row.get("attempt"): row.get("parent") for row in all_attempts(path)}
    limit = step
    branch: dict[int, float] = {}
    while attempt not in branch:
        branch[attempt] = limit
        match = CHECKPOINT_NAME.fullmatch(str(begun.get(attempt)))
        if match:
            attempt, limit = int(match[2]), min(limit, int(match[1]))
    return branch


def is_on(branch: Mapping[int, float], row: Row) -> bool:
    """Tell whether a row, or what else has a step and an attempt, belongs to a branch."""
    last = branch.get(row["attempt"])
    return last is not None and row["step"] <= last


def attempt_step(path: Path) -> int:
    """Return the updates that were done before the last attempt began."""
    step = _last_attempt(path).get("step", 0)
    return step if isinstance(step, int) else 0


def named_last(path: Path) -> str | None:
    """Return the checkpoint from which a person last wished to go on; None: from none by name."""
    named = [row for row in read_rows(path) if BY_NAME in (row.get("event"), row.get("reason"))]
    found = named[-1].get("checkpoint", named[-1].get("parent")) if named else None
    return found if isinstance(found, str) else None


def tokens_spent_before(path: Path) -> int:
    """Return the tokens that had been spent when the last attempt began."""
    spent = _last_attempt(path).get("tokens_spent", 0)
    return spent if isinstance(spent, int) else 0


def first_parent(path: Path) -> str | None:
    """Return what the run's first attempt was begun from; None: new weights, or no run yet."""
    parent = next(iter(all_attempts(path)), {}).get("parent")
    return parent if isinstance(parent, str) else None


def first_step(path: Path) -> int:
    """Return the updates that count as done before the run's first one; 0 for a whole run."""
    step = next(iter(all_attempts(path)), {}).get("step", 0)
    return step if isinstance(step, int) else 0


@dataclass(frozen=True)
class AttemptStart:
    """How an attempt begins: at which step, from what, why, and with what changes."""

    attempt: int
    step: int
    """Updates of the run that were done before it."""
    parent: str | None
    """A checkpoint's name, the path of one of another run, or None: new weights."""
    reason: str
    tokens_spent: int = 0
    stage: str | None = None
    """The stage that it changes; None = none."""
    changes: Row | None = None
    """How that stage now differs from its settings; plain values."""


def begin_attempt(path: Path, start: AttemptStart) -> None:
    """Record, durably, that an attempt begins."""
    append_row(path, {"event": ATTEMPT, **asdict(start)}, durable=True)


def stage_changes(path: Path, attempt: int) -> dict[str, Row]:
    """Return {stage: how it differs from its settings} on the branch of an attempt."""
    branch = branch_of(path, attempt)
    return {
        row["stage"]: row["changes"]
        for row in all_attempts(path)
        if row.get("attempt") in branch
        and isinstance(row.get("stage"), str)
        and isinstance(row.get("changes"), dict)
    }


def attempt_at(branch: Mapping[int, float], step: int) -> int:
    """Return the attempt of a branch that did, or will do, the update after `step` updates.

    Of two that end at the same step the older did it: the later one was left at its beginning.
    """
    return min(branch, key=lambda attempt: (branch[attempt] <= step, branch[attempt], attempt))


def checkpoint_at(path: Path, step: int) -> str | None:
    """Return the name of the branch's checkpoint at `step` updates.

    That is what the run itself was begun from, None = new weights, where it was begun at `step`.
    """
    if step <= first_step(path):
        return first_parent(path)
    return checkpoint_name(step, attempt_at(current_branch(path), step - 1))


def record_event(path: Path, event: str, **details: object) -> None:
    """Record what a reader of the run must know: a checkpoint set aside, a verdict acted on."""
    append_row(path, {"event": event, **details}, durable=True)


def events(path: Path, *kinds: str) -> list[Row]:
    """Return the rows of these events, in order."""
    return [row for row in read_rows(path) if row.get("event") in kinds]


def all_attempts(path: Path) -> list[Row]:
    """Return the rows that begin an attempt; one without a number is a `CorruptDataError`."""
    rows = events(path, ATTEMPT)
    for row in rows:
        attempt = row.get("attempt")
        if not isinstance(attempt, int) or attempt < 0:
            raise CorruptDataError(
                f"{path}: an attempt's number is {attempt!r:.40}; bring a good copy back"
            )
    return rows


def _last_attempt(path: Path) -> Row:
    return next(reversed(all_attempts(path)), {})


def register_gate(path: Path, stage: str, *, attempt: int, sha256: str) -> str:
    """Record the hash of a stage's thresholds unless there is one; return the one that holds.

    It is recorded before the stage's first step and holds for all attempts at it.
    """
    for row in events(path, GATE):
        if row.get("stage") == stage:
            return str(row.get("sha256"))
    record_event(path, GATE, stage=stage, attempt=attempt, sha256=sha256)
    return sha256
