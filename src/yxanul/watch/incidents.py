"""What happened to a run that its curves do not show: skipped steps, damage, attempts, gates."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from yxanul.runfolder.checkpoints import CHECKPOINT_NAME
from yxanul.runfolder.layout import RunFolder
from yxanul.runfolder.lineage import DIVERGED, SET_ASIDE, all_attempts, events
from yxanul.runfolder.rows import Row
from yxanul.runfolder.verdicts import all_verdicts


@dataclass(frozen=True)
class Incident:
    """Something at a step of the run."""

    step: int
    what: str


def incidents(folder: RunFolder, metrics: Sequence[Row]) -> list[Incident]:
    """Return what happened, by step; `metrics` are the rows of all attempts."""
    found = [*_steps(metrics), *_events(folder), *_attempts(folder), *_gates(folder)]
    return sorted(found, key=lambda incident: incident.step)


def _steps(metrics: Sequence[Row]) -> Iterator[Incident]:
    for row in metrics:
        if row.get("hardware"):
            yield Incident(row["step"], str(row["hardware"]))
        if row.get("skipped"):
            yield Incident(row["step"], f"no weight was moved: {row['skipped']}")


def _events(folder: RunFolder) -> Iterator[Incident]:
    for row in events(folder.lineage, SET_ASIDE, DIVERGED):
        name = CHECKPOINT_NAME.fullmatch(str(row.get("checkpoint")))
        if row["event"] == DIVERGED and isinstance(row.get("step"), int):
            yield Incident(row["step"], f"it diverged: {row.get('why')}")
        elif row["event"] == SET_ASIDE and name is not None:
            yield Incident(int(name[1]), f"{name[0]} was set aside: {row.get('why')}")


def _attempts(folder: RunFolder) -> Iterator[Incident]:
    for row in all_attempts(folder.lineage):
        if row["attempt"] > 0:
            start = row.get("parent") or "new weights"
            told = f"attempt {row['attempt']} begins from {start}: {row.get('reason')}"
            yield Incident(row.get("step", 0), told)


def _gates(folder: RunFolder) -> Iterator[Incident]:
    for row in all_verdicts(folder):
        yield Incident(row["step"], f"gate of {row['stage']}: {row['verdict']} ({row['why']})")
