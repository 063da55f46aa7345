"""A person's own decision on a gate: recorded with its reason, and no score is touched.

It counts until the run has gone on: what was trained after a verdict cannot be decided again.
"""

from yxanul.errors import UsageError
from yxanul.runfolder.layout import RunFolder
from yxanul.runfolder.lineage import current_branch, is_on
from yxanul.runfolder.rows import Row, read_placed_rows
from yxanul.runfolder.verdicts import is_about, read_verdicts, write_override

DECISIONS = ("pass", "extend", "rollback")
"""What a person may decide; to stop a run, it is simply not started again."""


def override_verdict(folder: RunFolder, stage: str, *, decided: str, by: str, reason: str) -> Row:
    """Record that the run goes on from the newest verdict on `stage` as if it were `decided`.

    Returns the verdict row as it was. Raises what `find_decidable` does.
    """
    last = find_decidable(folder, stage, decided=decided, reason=reason)
    write_override(folder, last, decided=decided, by=by, reason=reason.strip())
    return last


def find_decidable(folder: RunFolder, stage: str, *, decided: str, reason: str) -> Row:
    """Return the row of the verdict on `stage` that a person may decide otherwise.

    Another word, no reason, a stage that is not the last one judged, or a run that is going on, or
    of which that cannot be asked, or that has gone on is a `UsageError`.
    """
    if decided not in DECISIONS:
        raise UsageError(f"--override {decided}: it takes {', '.join(DECISIONS)}")
    if not reason.strip():
        raise UsageError("--override needs --reason with a sentence that says why")
    if folder.is_held_elsewhere(must_know=True):
        raise UsageError(f"{folder.root} is being trained; stop the run first, with Ctrl-C")
    verdicts = read_verdicts(folder)
    if not verdicts:
        raise UsageError(f"{folder.root}: no gate has been asked yet; it is when a stage ends")
    last = max(verdicts.values(), key=lambda row: int(row["step"]))
    if stage != last["stage"]:
        raise UsageError(
            f"--override: {folder.root} was last judged on {last['stage']}; only that verdict can "
            f"be decided otherwise, with --stage {last['stage']}"
        )
    if _has_gone_on(folder, last):
        raise UsageError(
            f"--override: the run has gone on since the gate of {stage}; begin another one from "
            "that stage's checkpoint, with yxanul train --init_from"
        )
    return last


def counts_still(folder: RunFolder, decided: Row) -> bool:
    """Tell whether a decision is about the run's last verdict, and the run has not gone on since.

    A damaged row of the run is a `CorruptDataError`.
    """
    last = max(read_verdicts(folder).values(), key=lambda row: int(row["step"]), default=None)
    return last is not None and is_about(decided, last) and not _has_gone_on(folder, last)


def _has_gone_on(folder: RunFolder, verdict: Row) -> bool:
    branch = current_branch(folder.lineage)
    rows = read_placed_rows(folder.metrics)
    is_later = any(is_on(branch, row) and row["step"] > verdict["step"] for row in rows)
    return is_later or verdict["attempt"] != max(branch)
