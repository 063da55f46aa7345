"""What the gates have said: RUN/gates.jsonl, a row per check and one per verdict.

The check rows of a decision stand before its verdict row, which alone makes it count.
"""

from collections.abc import Sequence
from typing import Any

from yxanul.errors import CorruptDataError
from yxanul.runfolder.layout import RunFolder
from yxanul.runfolder.lineage import current_branch, is_on
from yxanul.runfolder.rows import Row, append_row, cut_rows, read_rows

CHECK, VERDICT = "check", "verdict"
# The verdicts that let the next stage begin.
CLOSING = ("pass", "warn", "not run")
_WORDS = (*CLOSING, "extend", "rollback", "stop")
_SCORES = (dict, type(None))
_TYPES: dict[str, tuple[type, ...]] = {
    "stage": (str,),
    "attempt": (int,),
    "step": (int,),
    "verdict": (str,),
    "why": (str,),
    "bpb_before": _SCORES,
    "bpb_after": _SCORES,
}


def write_decision(folder: RunFolder, verdict: Row, *, checks: Sequence[Row]) -> None:
    """Append a decision; each row carries the verdict's stage, attempt and step.

    What a process that was killed in the middle left of the same decision is cut off first.
    """
    place = {key: verdict[key] for key in ("stage", "attempt", "step")}
    cut_rows(folder.gates, lambda row: any(row.get(key) != place[key] for key in place))
    for check in checks:
        append_row(folder.gates, {"row": CHECK, **place, **check})
    append_row(folder.gates, {"row": VERDICT, **verdict}, durable=True)


def read_verdicts(folder: RunFolder) -> dict[str, Row]:
    """Return {stage: its newest verdict row} on the branch that the run stands on.

    What an abandoned attempt was told does not count. A row without its keys is a
    `CorruptDataError`.
    """
    branch = current_branch(folder.lineage)
    return {row["stage"]: row for row in all_verdicts(folder) if is_on(branch, row)}


def all_verdicts(folder: RunFolder) -> list[Row]:
    """Return every verdict row of every attempt, in the order they were given."""
    verdicts = []
    for number, row in enumerate(read_rows(folder.gates), start=1):
        if row.get("row") == CHECK:
            continue
        for key, types in _TYPES.items():
            is_word = key != "verdict" or row.get(key) in _WORDS
            if not isinstance(row.get(key, ...), types) or not is_word:
                raise CorruptDataError(
                    f"{folder.gates}, line {number}: {key} is missing or not what it should be; "
                    "bring a good copy back, or delete that line and the gate is asked again"
                )
        verdicts.append(row)
    return verdicts


def read_checks(folder: RunFolder, verdict: Row) -> list[dict[str, Any]]:
    """Return the check rows that belong to a verdict row."""
    keys = ("stage", "attempt", "step")
    return [
        row
        for row in read_rows(folder.gates)
        if row.get("row") == CHECK and all(row.get(key) == verdict[key] for key in keys)
    ]
