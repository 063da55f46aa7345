"""What a run has cost so far: RUN/spending.jsonl, the seconds of every process that worked on it.

The one idea: what was spent never comes back, so rows are only added, whatever is rolled back or
trained again. A row is written with each row of metrics.jsonl, before a gate is asked and when a
process leaves; what a killed one did after its last row is not counted. A gate judges by these
rows, so that a kill changes no verdict. Each row has the price of its machine: hours that were paid
on another one stay what they cost.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from yxanul.errors import CorruptDataError
from yxanul.runfolder.rows import Row, append_row, read_rows
from yxanul.units import HOUR_S

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
    usd_per_hour: float | None = None
    """What the whole machine cost the process; None: it was not told."""
    machine: str | None = None
    """The devices that trained, "8 x NVIDIA H100 80GB HBM3"; None: an older version did not say."""
    at: float | None = None
    """When the row was written, in seconds since 1970; None: an older version did not say."""
    checkpoint: str | None = None
    """The newest one of the attempt; None: it had none, or an older version did not say."""


@dataclass(frozen=True)
class Spent:
    """Wall clock and dollars of a whole run, up to its last row."""

    seconds: float = 0.0
    """Of all processes, preparation and scoring included."""
    usd: float = 0.0
    """Of the processes that were told a price."""
    unpriced_s: float = 0.0
    """Seconds of those that were not."""

    def usd_at(self, usd_per_hour: float) -> float:
        """Return all dollars, where `usd_per_hour` prices what had no price."""
        return self.usd + self.unpriced_s * usd_per_hour / HOUR_S

    def plus(self, seconds: float, *, usd_per_hour: float | None) -> "Spent":
        """Return it with the seconds of one more process."""
        if usd_per_hour is None:
            return Spent(self.seconds + seconds, self.usd, self.unpriced_s + seconds)
        usd = self.usd + seconds * usd_per_hour / HOUR_S
        return Spent(self.seconds + seconds, usd, self.unpriced_s)


def next_process(payments: Sequence[Payment]) -> int:
    """Return a number for a process that begins now."""
    return 1 + max((payment.process for payment in payments), default=-1)


def record_payment(path: Path, payment: Payment) -> None:
    """Add a row."""
    append_row(path, asdict(payment))


def read_spending(path: Path) -> Spent:
    """Return what all processes spent; a damaged row is a `CorruptDataError`."""
    return spending_of(read_payments(path))


def spending_of(payments: Sequence[Payment]) -> Spent:
    """Return what all processes spent."""
    spent = Spent()
    for last in {payment.process: payment for payment in payments}.values():
        spent = spent.plus(last.seconds, usd_per_hour=last.usd_per_hour)
    return spent


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
    later = {key: row.get(key) for key in ("seq_len", "memory_bytes", "usd_per_hour", "at")}
    figures = (process, seconds, tokens, scoring_s, *(v for v in later.values() if v is not None))
    is_whole = all(isinstance(value, int | float) and 0 <= value < _MOST for value in figures)
    words = {key: row.get(key) for key in ("machine", "checkpoint")}
    if not is_whole or not all(isinstance(word, str | None) for word in words.values()):
        raise CorruptDataError(f"{place} is damaged; delete that line")
    return Payment(process, seconds, tokens, scoring_s, **words, **later)  # type: ignore[arg-type]
