"""Held-out scores in RUN/scores: a file per step, attempt and domain, document by document.

Kept per document so that every later comparison is paired. A file is written once, whole.
"""

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from yxanul.errors import CorruptDataError
from yxanul.runfolder.durable import write_json


@dataclass(frozen=True)
class DomainScore:
    """What a domain's held-out documents cost the model at one step."""

    step: int
    attempt: int
    domain: str
    bpb: float
    """Bits per byte over all documents, lower is better."""
    nats: list[float]
    """Per document."""
    bytes: list[int]
    """UTF-8 bytes per document."""
    tokens: list[int]
    """Scored tokens per document."""


def score_path(folder: Path, *, step: int, attempt: int, domain: str) -> Path:
    """Return where the score of a domain at one step lies."""
    return folder / f"step-{step:08d}-a{attempt}-{domain}.json"


def write_score(folder: Path, score: DomainScore) -> None:
    """Write one score, whole or not at all."""
    path = score_path(folder, step=score.step, attempt=score.attempt, domain=score.domain)
    write_json(path, asdict(score))


def read_score(path: Path) -> DomainScore:
    """Read one score; a damaged file is a `CorruptDataError`."""
    try:
        score = DomainScore(**json.loads(path.read_text(encoding="utf-8")))
        columns = (score.nats, score.bytes, score.tokens)
        is_placed = isinstance(score.step, int) and isinstance(score.domain, str)
        is_placed &= all(isinstance(column, list) for column in columns)
        is_even = len({len(column) for column in columns}) == 1
        if is_placed and is_even and math.isfinite(score.bpb + math.fsum(score.nats)):
            return score
    # OverflowError: a whole number that no float can hold.
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        raise _damaged(path) from error
    raise _damaged(path)


def scores_at(folder: Path, step: int, *, branch: Mapping[int, float]) -> dict[str, DomainScore]:
    """Return {domain: score} that the run's branch took at `step`, which may be none.

    branch {attempt: last step of it that counts} is `lineage.current_branch`; where two attempts
    scored the same step, the same weights, the later one counts.
    """
    counts = sorted(attempt for attempt, last in branch.items() if step <= last)
    return {
        score.domain: score
        for attempt in counts
        for score in _all(folder, f"step-{step:08d}-a{attempt}-*.json")
    }


def domain_course(folder: Path, domain: str, *, branch: Mapping[int, float]) -> list[DomainScore]:
    """Return a domain's scores on the branch, by step."""
    found = {
        score.step: score
        for attempt in sorted(branch)
        for score in _all(folder, f"step-*-a{attempt}-{domain}.json")
        if score.domain == domain and score.step <= branch[attempt]
    }
    return [found[step] for step in sorted(found)]


def forget_scores(folder: Path, *, after_step: int, attempt: int) -> None:
    """Delete an attempt's scores of later steps: the run went back, and takes them again."""
    for path in folder.glob(f"step-*-a{attempt}-*.json"):
        if int(path.name.split("-")[1]) > after_step:
            path.unlink()


def _all(folder: Path, pattern: str) -> Iterator[DomainScore]:
    return (read_score(path) for path in sorted(folder.glob(pattern)))


def _damaged(path: Path) -> CorruptDataError:
    return CorruptDataError(f"{path} is not what was written; bring a good copy back")
