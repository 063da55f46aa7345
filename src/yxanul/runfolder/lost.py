"""Whether a run's checkpoints are gone: it must not be taken for one that never had any.

The one idea: what tells of them lies beside them and is never cut, so it outlives a folder that was
emptied, or whose disk is not mounted. What was told before `settle_losses` tells of none that the
folder has lost.
"""

from collections.abc import Iterator
from pathlib import Path

from yxanul.errors import CorruptCheckpointError
from yxanul.runfolder.checkpoints import CHECKPOINT_NAME, list_checkpoints
from yxanul.runfolder.layout import RunFolder
from yxanul.runfolder.lineage import BEGUN_AGAIN, BROUGHT, current_attempt, events, record_event
from yxanul.runfolder.rows import Row, read_rows
from yxanul.runfolder.saving import LATEST_NAME
from yxanul.runfolder.spending import read_payments
from yxanul.runfolder.verdicts import all_verdicts

ANEW = "begin anew with another --out (and another checkpoint.mirror, if there is one)"
"""What may be done where a run's checkpoints cannot be had again."""


def has_lost_checkpoints(folder: RunFolder) -> bool:
    """Tell whether the attempt that was begun last has saved a checkpoint, and has none."""
    attempt = current_attempt(folder.lineage)
    if list_checkpoints(folder.checkpoints, attempt=attempt):
        return False
    settled = _settled(folder)
    matches = (CHECKPOINT_NAME.fullmatch(name) for name in _names_told(folder, settled=settled))
    if any(match is not None and int(match[2]) == attempt for match in matches):
        return True
    # The end of a stage is saved before its gate is asked.
    return settled is None and any(row["attempt"] == attempt for row in all_verdicts(folder))


def refuse_lost_checkpoints(folder: RunFolder) -> None:
    """Raise a `CorruptCheckpointError` if the checkpoints of the run's last attempt are gone."""
    if has_lost_checkpoints(folder):
        raise CorruptCheckpointError(
            f"attempt {current_attempt(folder.lineage)} of {folder.root} has saved checkpoints, "
            f"and none is left in {folder.checkpoints}; were they deleted, or is a disk not "
            f"mounted? Nothing was started over; bring them back, {ANEW}, or begin that attempt "
            "again with --resume never (and another mirror, too)"
        )


def settle_losses(
    folder: RunFolder, event: str, *, lineage: Path | None = None, here: str | None = None
) -> None:
    """Record that what has been told by now is no loss, but for the checkpoint that is `here`.

    `lineage`: in this file, which takes over. Rows come from a mirror before the checkpoints that
    they name, and a person may delete these and begin again.
    """
    payments = len(read_rows(folder.spending))
    record_event(lineage or folder.lineage, event, payments=payments, checkpoint=here)


def _settled(folder: RunFolder) -> Row | None:
    """Return the event that settled what was told before it; None: nothing was settled."""
    rows = events(folder.lineage, BROUGHT, BEGUN_AGAIN)
    return rows[-1] if rows and isinstance(rows[-1].get("payments"), int) else None


def _names_told(folder: RunFolder, *, settled: Row | None) -> Iterator[str]:
    """Yield the names of checkpoints that other files of the run know."""
    known = 0 if settled is None else settled["payments"]
    for payment in read_payments(folder.spending)[known:]:
        if payment.checkpoint is not None:
            yield payment.checkpoint
    if settled is not None and isinstance(settled.get("checkpoint"), str):
        yield settled["checkpoint"]
    latest = folder.checkpoints / LATEST_NAME
    if settled is None and latest.is_file():
        yield latest.read_text(encoding="utf-8", errors="replace").strip()
