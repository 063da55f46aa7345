"""Items of the tasks that stand in the training text: RUN/contamination.json, task by task."""

from __future__ import annotations

from dataclasses import dataclass

from yxanul.report.reading.gather import Run
from yxanul.report.reading.records import Record
from yxanul.report.reading.traced import Story, Traced, total


@dataclass(frozen=True)
class TaskContamination:
    """One task: how many of its items were looked for, and how many were found."""

    task: Traced
    items: Traced | None
    too_short: Traced | None
    """Items with too few words to tell."""
    dirty: Traced
    where: Story
    """The sources that hold them."""


@dataclass(frozen=True)
class Contamination:
    """What was looked through, and what was found in it."""

    tasks: tuple[TaskContamination, ...]
    tokens: Traced | None
    """Tokens of training text that were looked through."""


def contamination(run: Run) -> Contamination | None:
    """Return what a run found of its tasks' items; None when it did not look."""
    record = run.contamination
    if record is None:
        return None
    findings = _findings(record)
    parts = [record.number("sources", name, "tokens") for name in record.table("sources")]
    told = [part for part in parts if part is not None]
    return Contamination(
        tuple(_task(record, task, findings=findings) for task in record.table("benchmarks")),
        total(told).shown_as("count") if told else None,
    )


def _findings(record: Record) -> list[tuple[str, str, str]]:
    """Return (task, item, source) of each finding."""
    return [
        (
            record.need_text("findings", index, "task"),
            record.need_text("findings", index, "item"),
            record.need_text("findings", index, "source"),
        )
        for index in range(len(record.items("findings")))
    ]


def _task(record: Record, task: str, *, findings: list[tuple[str, str, str]]) -> TaskContamination:
    place = ("benchmarks", task)
    items = {item for of, item, _ in findings if of == task}
    where: list[str | Traced] = []
    for source in dict.fromkeys(source for of, _, source in findings if of == task):
        where += [", " if where else "", Traced(source, (record.source("sources", source),), "key")]
    addresses = (record.source("findings"), record.source(*place))
    return TaskContamination(
        task=Traced(task, (record.source(*place),), "key"),
        items=record.number(*place, "items"),
        too_short=record.number(*place, "too_short"),
        dirty=Traced(len(items), addresses, "dirty"),
        where=tuple(where),
    )
