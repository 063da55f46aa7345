"""What the gates have said: RUN/gates.jsonl, a row per check and one per verdict.

The check rows of a decision stand before its verdict row, which alone makes it count. A plateau row
is the answer to whether a stage may begin its decay. An override row is a person's own decision on
the verdict before it, which stays as it was written.
"""

import time
from collections.abc import Mapping, Sequence
from itertools import takewhile
from typing import Any

from yxanul.errors import CorruptDataError
from yxanul.runfolder.layout import RunFolder
from yxanul.runfolder.lineage import current_branch, is_on
from yxanul.runfolder.rows import Row, append_row, cut_rows, parse_rows, read_rows

CHECK, VERDICT, PLATEAU, OVERRIDE = "check", "verdict", "plateau", "override"
# The verdicts that let the next stage begin.
CLOSING = ("pass", "warn", "not run")
STOP = "stop"
_WORDS = (*CLOSING, "extend", "rollback", STOP)
_SCORES = (dict, type(None))
_PLACE_TYPES: dict[str, tuple[type, ...]] = {"stage": (str,), "attempt": (int,), "step": (int,)}
_TYPES = {
    CHECK: _PLACE_TYPES,
    VERDICT: _PLACE_TYPES | {"why": (str,), "bpb_before": _SCORES, "bpb_after": _SCORES},
    PLATEAU: _PLACE_TYPES,
    OVERRIDE: _PLACE_TYPES | {"by": (str,), "reason": (str,)},
}
_KINDS = tuple(_TYPES)


def write_decision(
    folder: RunFolder, verdict: Row, *, checks: Sequence[Row], kind: str = VERDICT
) -> None:
    """Append a decision, of kind VERDICT or PLATEAU; each row carries its stage, attempt and step.

    What a process that was killed in the middle left of the same decision is cut off first.
    """
    place = _place(verdict)
    cut_rows(folder.gates, lambda row: any(row.get(key) != place[key] for key in place))
    for check in checks:
        append_row(folder.gates, {"row": CHECK, **place, **check})
    append_row(folder.gates, {"row": kind, **verdict}, durable=True)


def write_override(folder: RunFolder, verdict: Row, *, decided: str, by: str, reason: str) -> None:
    """Append a person's decision on a verdict row, which stays as it is."""
    row = {"verdict": decided, "by": by, "reason": reason, "at": time.time()}
    append_row(folder.gates, {"row": OVERRIDE, **_place(verdict), **row}, durable=True)


def read_verdicts(folder: RunFolder, branch: Mapping[int, float] | None = None) -> dict[str, Row]:
    """Return {stage: its newest verdict row} on a branch, None: the run's, as it counts.

    What an abandoned attempt was told does not count. Where a person decided otherwise, `verdict`
    and `why` are theirs, and `gate_verdict` is what the gate had said. A row without its keys is a
    `CorruptDataError`.
    """
    if branch is None:
        branch = current_branch(folder.lineage)
    overrides = _rows_of(folder, OVERRIDE)
    return {
        row["stage"]: _overridden(row, overrides)
        for row in all_verdicts(folder)
        if is_on(branch, row)
    }


def closed_stages(folder: RunFolder, branch: Mapping[int, float] | None = None) -> dict[str, Row]:
    """Return the verdicts of the stages that need no more training on a branch, by stage."""
    verdicts = read_verdicts(folder, branch)
    return {name: row for name, row in verdicts.items() if row["verdict"] in CLOSING}


def settled_stages(folder: RunFolder) -> dict[str, Row]:
    """Return the verdicts of the stages that are trained no more, closed or stopped, by stage."""
    verdicts = read_verdicts(folder)
    return {name: row for name, row in verdicts.items() if row["verdict"] in (*CLOSING, STOP)}


def all_verdicts(folder: RunFolder) -> list[Row]:
    """Return every verdict row of every attempt as it was written, in order."""
    return _rows_of(folder, VERDICT)


def all_plateaus(folder: RunFolder) -> list[Row]:
    """Return every plateau row of every attempt, in order."""
    return _rows_of(folder, PLATEAU)


def find_override(folder: RunFolder, verdict: Row) -> Row | None:
    """Return what a person decided last instead of a verdict; None = it stands."""
    return _last_of(_rows_of(folder, OVERRIDE), verdict)


def decided_beyond(folder: RunFolder, copy: bytes) -> tuple[list[Row], bool]:
    """Return the override rows with which a copy of RUN/gates.jsonl goes on after what both have.

    None where it goes on with anything else, or with damage. With them, whether both have all that
    the run has.
    """
    here = folder.gates.read_bytes() if folder.gates.is_file() else b""
    whole = here[: here.rfind(b"\n") + 1]  # half a row may follow
    own, there = whole.splitlines(keepends=True), copy.splitlines(keepends=True)
    both = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(own, there, strict=False)))
    more = b"".join(there[both:])
    if not more.endswith(b"\n"):
        return [], False
    try:
        rows = parse_rows(more[:-1].decode(), path=folder.gates)
    except (CorruptDataError, UnicodeDecodeError):
        return [], False
    is_decided = all(_kind(row) == OVERRIDE and _wrong_key(row) is None for row in rows)
    return rows if is_decided else [], both == len(own)


def find_plateau(folder: RunFolder, stage: str, *, attempt: int, step: int) -> Row | None:
    """Return the plateau row of a stage at one step of an attempt; None before it was asked."""
    place = {"stage": stage, "attempt": attempt, "step": step}
    return next((row for row in all_plateaus(folder) if _place(row) == place), None)


def read_checks(folder: RunFolder, verdict: Row) -> list[dict[str, Any]]:
    """Return the check rows that belong to a verdict or plateau row."""
    place = _place(verdict)
    return [row for row in _rows_of(folder, CHECK) if _place(row) == place]


def is_about(decided: Row, verdict: Row) -> bool:
    """Tell whether a person's decision is one on this verdict."""
    return _place(decided) == _place(verdict)


def _place(row: Row) -> Row:
    return {key: row[key] for key in _PLACE_TYPES}


def _rows_of(folder: RunFolder, kind: str) -> list[Row]:
    """Return the rows of one kind; any damaged row of the file is a `CorruptDataError`."""
    found = []
    for number, row in enumerate(read_rows(folder.gates), start=1):
        _refuse_broken(folder, row, line=number)
        if _kind(row) == kind:
            found.append(row)
    return found


def _kind(row: Row) -> Any:
    return row.get("row", VERDICT)  # the first version wrote verdicts only, and did not say so


def _overridden(verdict: Row, overrides: Sequence[Row]) -> Row:
    last, said = _last_of(overrides, verdict), verdict["verdict"]
    if last is None:
        return verdict
    why = f"{last['by']} decided so: {last['reason']} (the gate had said {said}: {verdict['why']})"
    return {**verdict, "verdict": last["verdict"], "why": why, "gate_verdict": said}


def _last_of(overrides: Sequence[Row], verdict: Row) -> Row | None:
    return next((row for row in reversed(overrides) if _place(row) == _place(verdict)), None)


def _refuse_broken(folder: RunFolder, row: Row, *, line: int) -> None:
    """Raise unless a row is of a known kind and has the keys of its kind."""
    if (wrong := _wrong_key(row)) is not None:
        raise CorruptDataError(
            f"{folder.gates}, line {line}: {wrong} is missing or not what it should be; "
            "bring a good copy back, or delete that line and the gate is asked again"
        )


def _wrong_key(row: Row) -> str | None:
    """Return the first key that a row of its kind lacks or has wrong, if any."""
    kind = _kind(row)
    if kind not in _KINDS:
        return "row"
    for key, wanted in _TYPES[kind].items():
        if not isinstance(row.get(key, ...), wanted):
            return key
    return "verdict" if kind != CHECK and row.get("verdict") not in _WORDS else None
