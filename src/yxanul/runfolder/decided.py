"""What a person decided of a run's copy elsewhere, on its way back to the run.

The one idea: rows of decisions that the copy's gates.jsonl has beyond the run's own are news, and
not older than it. Nothing is put over them, and the next start adds them here.
"""

from yxanul.runfolder.layout import RunFolder
from yxanul.runfolder.rows import Row, append_row
from yxanul.runfolder.storage import Place, reaching
from yxanul.runfolder.verdicts import decided_beyond

_LARGEST_MORE_BYTES = 1 << 16


def decided_there(place: Place, folder: RunFolder) -> list[Row]:
    """Return the decisions that the copy at a place has beyond the run's own rows."""
    inside, here = f"run/{folder.gates.name}", folder.gates
    if not place.exists(inside):
        return []
    size = here.stat().st_size if here.is_file() else 0
    return decided_beyond(folder, place.read(inside, largest=size + _LARGEST_MORE_BYTES))


def bring_decisions(address: str, folder: RunFolder) -> list[Row]:
    """Add those decisions to the run's own rows; return them. Raises what `reaching` raises."""
    with reaching(address):
        decided = decided_there(Place(address), folder)
    for row in decided:
        append_row(folder.gates, row, durable=True)
    return decided
