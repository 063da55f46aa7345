"""Whether a run's checkpoints are gone: it must not be taken for one that never had any.

The one idea: what tells of them lies beside them and is never cut, so it outlives a folder that was
emptied, or whose disk is not mounted.
"""

from collections.abc import Iterator

from yxanul.runfolder.checkpoints import CHECKPOINT_NAME, list_checkpoints
from yxanul.runfolder.layout import RunFolder
from yxanul.runfolder.lineage import current_attempt
from yxanul.runfolder.saving import LATEST_NAME
from yxanul.runfolder.spending import read_payments
from yxanul.runfolder.verdicts import all_verdicts


def has_lost_checkpoints(folder: RunFolder) -> bool:
    """Tell whether the attempt that was begun last has saved a checkpoint, and has none."""
    attempt = current_attempt(folder.lineage)
    if list_checkpoints(folder.checkpoints, attempt=attempt):
        return False
    matches = (CHECKPOINT_NAME.fullmatch(name) for name in _names_told(folder))
    is_told = any(match is not None and int(match[2]) == attempt for match in matches)
    # The end of a stage is saved before its gate is asked.
    return is_told or any(row["attempt"] == attempt for row in all_verdicts(folder))


def _names_told(folder: RunFolder) -> Iterator[str]:
    """Yield the names of checkpoints that other files of the run know."""
    for payment in read_payments(folder.spending):
        if payment.checkpoint is not None:
            yield payment.checkpoint
    latest = folder.checkpoints / LATEST_NAME
    if latest.is_file():
        yield latest.read_text(encoding="utf-8", errors="replace").strip()
