"""Held-out scores in RUN/scores: a file per step, attempt and domain, document by document.

Kept per document so that every later comparison is paired. A file is written whole, and again only
where its domain's documents are others by now.
"""

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

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
    text_sha256: str | None = None
    """Of the documents, as their reader hashes them; None in a score of an earlier version."""

    def is_of_the_text_of(self, other: "DomainScore") -> bool:
        """Tell whether both are of the same documents, as far as both can tell."""
        return is_same_text(vars(self), vars(other))


def is_same_text(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Tell whether two scores, as plain values, are of the same documents.

    By the hash of these, or by their sizes where a score of an earlier version has none.
    """
    hashes = one.get("text_sha256"), other.get("text_sha256")
    if None in hashes:
        return all(one.get(key) == other.get(key) for key in ("bytes", "tokens"))
    return hashes[0] == hashes[1]


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
        is_placed &= isinstance(score.text_sha256, str | None)
        is_even = len({len(column) for column in columns}) == 1
        if is_placed and is_even and math.isfinite(score.bpb + math.fsum(score.nats)):
            return score
    # OverflowError: a whole number that no float can hold.
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        raise damaged_score(path) from error
    raise damaged_score(path)


def scores_at(folder: Path, step: int, *, branch: Mapping[int, float]) -> dict[str, DomainScore]:
    """Return {domain: score} that the run's branch took at `step`, which may be none.

    branch {attempt: last step of it that counts} is `lineage.current_branch`; where two attempts
    scored the same step, the same weights, the later one counts.
    """
    scores = map(read_score, paths_at(folder, step, branch=branch))
    return {score.domain: score for score in scores}


def paths_at(folder: Path, step: int, *, branch: Mapping[int, float]) -> Iterator[Path]:
    """Yield the files of scores in a folder that the branch took at `step`, later attempts last."""
    for attempt in sorted(branch):
        if step <= branch[attempt]:
            yield from sorted(folder.glob(f"step-{step:08d}-a{attempt}-*.json"))


def domain_course(folder: Path, domain: str, *, branch: Mapping[int, float]) -> list[DomainScore]:
    """Return a domain's scores on the branch, by step."""
    found = {
        score.step: score
        for attempt in sorted(branch)
        for score in map(read_score, sorted(folder.glob(f"step-*-a{attempt}-{domain}.json")))
        if score.domain == domain and score.step <= branch[attempt]
    }
    return [found[step] for step in sorted(found)]


def forget_after(folder: Path, *, step: int, attempt: int) -> None:
    """Delete an attempt's scores of later steps, skills as well: the run takes them again."""
    for path in list(folder.rglob(f"step-*-a{attempt}-*.json")):
        if int(path.name.split("-")[1]) > step:
            path.unlink()


def damaged_score(path: Path) -> CorruptDataError:
    """Return the error that names a file of scores, of a domain or of a task."""
    return CorruptDataError(f"{path} is not what was written; bring a good copy back")
