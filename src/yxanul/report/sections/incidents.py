"""What happened to a run that its curves do not show, in the order of its files.

The one idea: lineage.jsonl is told whole. A kind of event that this version does not know is told
by its keys, so that what a run recorded is never passed over.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from yxanul.report.reading.gather import Run
from yxanul.report.reading.records import Record
from yxanul.report.reading.traced import Story, Traced, count
from yxanul.runfolder import lineage


@dataclass(frozen=True)
class Event:
    """A sentence about something that happened; `tone` marks what is trouble."""

    story: Story
    tone: str = "quiet"


def incidents(run: Run) -> tuple[Event, ...]:
    """Tell the events of lineage.jsonl in the order in which they were recorded."""
    return tuple(_KINDS.get(row.need_text("event"), _other)(row) for row in run.events)


def starts(run: Run) -> tuple[Event, ...]:
    """Tell how many processes have worked on the run, and which of them were other machines'."""
    first: dict[int, Record] = {}
    for row in run.spending:
        first.setdefault(row.need_count("process"), row)
    if not first:
        return ()
    number = count([Traced(n, (row.source("process"),)) for n, row in first.items()])
    words = " process has" if number.value == 1 else " processes have"
    return (Event((number, f"{words} worked on the run.")), *_restarts(list(first.values())))


def machines(run: Run) -> tuple[Traced, ...]:
    """Return the different machines that rows of spending.jsonl name, in their order."""
    found: dict[str, Traced] = {}
    for row in run.spending:
        if (name := row.text("machine")) is not None:
            found.setdefault(str(name.value), name)
    return tuple(found.values())


def steps(run: Run) -> tuple[Event, ...]:
    """Tell the steps that came out otherwise a second time, and those that moved no weight."""
    return tuple(event for row in run.metrics for event in _step(row))


def _step(row: Record) -> Iterator[Event]:
    step = row.number("step") or ""
    if (why := row.text("hardware")) is not None:
        yield Event(("Step ", step, ": ", why, "."), "bad")
    if (why := row.text("skipped")) is not None:
        yield Event(("Step ", step, ": no weight was moved, since ", why, "."), "warn")


def _restarts(rows: list[Record]) -> Iterator[Event]:
    before = rows[0].text("machine")
    for row in rows[1:]:
        story: list[str | Traced] = ["Process ", row.number("process") or "", " went on"]
        if (tokens := row.number("tokens_spent")) is not None:
            story += [", its first row after ", tokens, " tokens spent"]
        now = row.text("machine")
        is_other = now is not None and before is not None and now.value != before.value
        if is_other and now is not None and before is not None:
            story += [", on another machine: ", now, " after ", before]
        before = now or before
        yield Event((*story, "."), "warn" if is_other else "quiet")


def _attempt(row: Record) -> Event:
    attempt, parent, reason = row.number("attempt"), row.text("parent"), row.text("reason")
    story: list[str | Traced] = ["Attempt ", attempt or "", " begins from "]
    story.append(parent if parent is not None else "new weights")
    story += [": ", reason, "."] if reason is not None else ["."]
    spent = row.number("tokens_spent")
    if spent is not None and spent.number > 0:
        story += [" Until then ", spent, " tokens had been spent."]
    return Event((*story, *_change_story(row)), "bad" if row.table("changes") else "quiet")


def _change_story(row: Record) -> Story:
    """Tell what a rollback changed for the new attempt."""
    told: list[str | Traced] = []
    words = {
        "replay_share": ("replay of earlier stages ", "share", ""),
        "rate_factor": ("learning rates times ", "plain", ""),
        "extra_steps": ("the stage longer by ", "whole", " steps"),
        "from_stage_step": ("on from step ", "whole", " of the stage"),
    }
    for key, (before, kind, after) in words.items():
        value = row.number("changes", key)
        if value is not None and value.number != 0:
            told += [", " if told else " Changed: ", before, value.shown_as(kind), after]
    return (*told, ".") if told else ()


def _set_aside(row: Record) -> Event:
    name, to, why = row.text("checkpoint"), row.text("to"), row.text("why")
    story: list[str | Traced] = ["Checkpoint ", name or "", " was damaged and set aside"]
    story += [" as ", to] if to is not None else []
    return Event((*story, ": ", why, ".") if why is not None else (*story, "."), "bad")


def _diverged(row: Record) -> Event:
    step, attempt, why = row.number("step"), row.number("attempt"), row.text("why")
    story: list[str | Traced] = ["Attempt ", attempt or "", " diverged at step ", step or ""]
    return Event((*story, ": ", why, ".") if why is not None else (*story, "."), "bad")


def _gate(row: Record) -> Event:
    """Tell that a gate was fixed; its hash stands with its verdict."""
    stage, attempt = row.text("stage"), row.number("attempt")
    story: list[str | Traced] = ["The gate of ", stage or "", " was fixed before its first step"]
    story += [" in attempt ", attempt] if attempt is not None and attempt.number > 0 else []
    return Event((*story, "."))


def _settings(row: Record) -> Event:
    """Tell that a start has written other settings than those that were there."""
    what = row.text("what")
    if what is None:
        return Event(("The settings were written anew: stages or keys were added.",))
    return Event(("The run went on with other settings: ", what, "."), "warn")


def _named(row: Record) -> Event:
    name = row.text("checkpoint") or ""
    return Event(("The run went on from its newest checkpoint, which was named: ", name, "."))


def _brought(_row: Record) -> Event:
    return Event(("The run was brought to another machine from its mirror.",))


def _begun_again(_row: Record) -> Event:
    return Event(("Its checkpoints had been deleted, and the attempt was begun again.",), "warn")


def _other(row: Record) -> Event:
    """Tell an event of another version, by its keys that hold one value."""
    story: list[str | Traced] = [row.text("event") or ""]
    for key, value in row.table().items():
        if key == "event" or value is None or isinstance(value, dict | list):
            continue
        written = str(value).lower() if isinstance(value, bool) else value
        where = (row.source(key),)
        story += ["; ", Traced(key, where, "key"), " ", Traced(written, where)]
    return Event((*story, "."), "warn")


_KINDS: dict[str, Callable[[Record], Event]] = {
    lineage.ATTEMPT: _attempt,
    lineage.BEGUN_AGAIN: _begun_again,
    lineage.BROUGHT: _brought,
    lineage.DIVERGED: _diverged,
    lineage.GATE: _gate,
    lineage.BY_NAME: _named,
    lineage.SET_ASIDE: _set_aside,
    lineage.SETTINGS: _settings,
}
