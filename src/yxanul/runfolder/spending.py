"""What a run has cost so far: RUN/spending.jsonl, the seconds of every process that worked on it.

The one idea: what was spent never comes back, so rows are only added, whatever is rolled back or
trained again. A row is written with each row of metrics.jsonl and when a process leaves; what a
killed one did after its last row is not counted. A gate judges by these rows, so that a kill
changes no verdict.
"""

from dataclasses import dataclass
from pathlib import Path

from yxanul.errors import CorruptDataError
from yxanul.runfolder.rows import Row, append_row, read_rows


@dataclass(frozen=True)
class Spending:
    """Wall clock and tokens of a whole run, up to its last row."""

    seconds: float
    """Of all processes, preparation and scoring included."""
    tokens: int
    """tokens_spent, never rolled back."""

    def projected_s(self, tokens_left: int) -> float:
        """Return the seconds of the whole run if each token left costs what one did so far."""
        return self.seconds + tokens_left * (self.seconds / self.tokens if self.tokens else 0.0)


def next_process(path: Path) -> int:
    """Return a number for a process that begins now."""
    return 1 + max((int(row["process"]) for row in _rows(path)), default=-1)


def record_spending(path: Path, *, process: int, seconds: float, tokens: int) -> None:
    """Add a row: seconds since the process began, tokens that the run has spent."""
    append_row(path, {"process": process, "seconds": seconds, "tokens_spent": tokens})


def read_spending(path: Path) -> Spending:
    """Return what all processes spent; a damaged row is a `CorruptDataError`."""
    rows = _rows(path)
    seconds = {row["process"]: row["seconds"] for row in rows}
    return Spending(sum(seconds.values()), max((row["tokens_spent"] for row in rows), default=0))


def _rows(path: Path) -> list[Row]:
    rows = read_rows(path)
    for number, row in enumerate(rows, start=1):
        figures = [row.get(key) for key in ("process", "seconds", "tokens_spent")]
        if not all(isinstance(value, int | float) and 0 <= value < 2**63 for value in figures):
            raise CorruptDataError(f"{path}, line {number} is damaged; delete that line")
    return rows
