"""What a run has cost so far: RUN/spending.jsonl, the seconds of every process that worked on it.

The one idea: what was spent never comes back, so rows are only added, whatever is rolled back or
trained again. A row is written with each row of metrics.jsonl and when a process leaves; what a
killed one did after its last row is not counted. A gate judges by these rows, so that a kill
changes no verdict.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from yxanul.errors import CorruptDataError
from yxanul.runfolder.rows import Row, append_row, read_rows

_MOST = 2**63


@dataclass(frozen=True)
class Payment:
    """What a process had cost, and the run had reached for it, when a row was written."""

    process: int
    seconds: float
    """Since the process began."""
    tokens_spent: int
    """Of the whole run, never rolled back."""
    scoring_s: float = 0.0
    """Of these seconds, those of scores and skills."""
    seq_len: int | None = None
    """Sequence length of the newest tokens; None: an older version did not say."""
    memory_bytes: int | None = None
    """The most that the main process has held: its tensors on a card, all of it on a CPU."""


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


def next_process(payments: Sequence[Payment]) -> int:
    """Return a number for a process that begins now."""
    return 1 + max((payment.process for payment in payments), default=-1)


def record_payment(path: Path, payment: Payment) -> None:
    """Add a row."""
    append_row(path, asdict(payment))


def read_spending(path: Path) -> Spending:
    """Return what all processes spent; a damaged row is a `CorruptDataError`."""
    return spending_of(read_payments(path))


def spending_of(payments: Sequence[Payment]) -> Spending:
    """Return what all processes spent."""
    seconds = {payment.process: payment.seconds for payment in payments}
    tokens = max((payment.tokens_spent for payment in payments), default=0)
    return Spending(sum(seconds.values()), tokens)


def read_payments(path: Path) -> list[Payment]:
    """Return the rows in order, none of a missing file; a damaged one is a `CorruptDataError`."""
    return [
        parse_payment(row, place=f"{path}, line {number}")
        for number, row in enumerate(read_rows(path), start=1)
    ]


def parse_payment(row: Row, *, place: str) -> Payment:
    """Return a row; a damaged one is a `CorruptDataError` that names `place`."""
    process, seconds, tokens = (row.get(key) for key in ("process", "seconds", "tokens_spent"))
    scoring_s = row.get("scoring_s", 0.0)
    seq_len, memory_bytes = row.get("seq_len"), row.get("memory_bytes")
    later = (0 if value is None else value for value in (seq_len, memory_bytes))
    figures = (process, seconds, tokens, scoring_s, *later)
    if not all(isinstance(value, int | float) and 0 <= value < _MOST for value in figures):
        raise CorruptDataError(f"{place} is damaged; delete that line")
    return Payment(process, seconds, tokens, scoring_s, seq_len, memory_bytes)  # type: ignore[arg-type]
