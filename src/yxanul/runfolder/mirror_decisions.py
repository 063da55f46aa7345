"""What a person decided of a run's copy elsewhere, on its way back to the run.

The one idea: rows of decisions that the copy's gates.jsonl has beyond the run's own are news, and
not older than it. Nothing is put over them, and the next start adds them here; unless the run has
gone on from the gate meanwhile, where a person could not decide here either. Then they came too
late, which is told.
"""

from yxanul.runfolder.decisions import counts_still
from yxanul.runfolder.layout import RunFolder
from yxanul.runfolder.rows import Row, append_row
from yxanul.runfolder.storage import Place, reaching
from yxanul.runfolder.verdicts import decided_beyond

_LARGEST_MORE_BYTES = 1 << 16


def decided_there(place: Place, folder: RunFolder) -> tuple[list[Row], list[Row]]:
    """Return the decisions that the copy at a place has beyond the run's own rows.

    First those that count, then those that came too late.
    """
    inside, here = f"run/{folder.gates.name}", folder.gates
    if not place.exists(inside):
        return [], []
    size = here.stat().st_size if here.is_file() else 0
    copy = place.read(inside, largest=size + _LARGEST_MORE_BYTES)
    rows, is_next = decided_beyond(folder, copy)
    counting = [row for row in rows if is_next and counts_still(folder, row)]
    return counting, [row for row in rows if row not in counting]


def bring_decisions(address: str, folder: RunFolder) -> list[Row]:
    """Add those that count to the run's own rows; return them. Raises what `reaching` raises.

    Of one that came too late `Mirror` tells, when it puts the run's rows over it.
    """
    with reaching(address):
        counting, _ = decided_there(Place(address), folder)
    for row in counting:
        append_row(folder.gates, row, durable=True)
    return counting


def told_late(row: Row) -> str:
    """Return what is said of a decision that came too late."""
    return (
        f"what {row['by']} decided on the gate of {row['stage']} came too late, as the run had "
        f"gone on from there, and does not count: {row['verdict']} ({row['reason']})"
    )
