"""What was asked for and not taken: measures, tasks and checks of skills, each with its reason."""

from __future__ import annotations

from dataclasses import dataclass

from yxanul.report.reading.course import stage_names
from yxanul.report.reading.gather import Run
from yxanul.report.reading.records import Record
from yxanul.report.reading.skills import is_skill_check, scores_by_task
from yxanul.report.reading.traced import Story, Traced


@dataclass(frozen=True)
class NotRun:
    """A figure that is not there, and why."""

    what: Story
    why: Traced | str


def not_run(run: Run) -> tuple[NotRun, ...]:
    """Return what was asked for and not taken, and the checks of skills that were not run."""
    return (*_checks_not_run(run), *_measures_not_run(run), *_tasks_not_run(run))


def _measures_not_run(run: Run) -> list[NotRun]:
    """Return what the newest scores lack, unless a check of the gate has said so already."""
    found = []
    judged = {row.find("subject") for row in run.checks if _is_missed(run, row)}
    for scores in scores_by_task(run).values():
        record = scores[-1].record
        for measure in record.table("not_run"):
            if f"{scores[-1].task} {measure}" in judged:
                continue
            why, name = record.text("not_run", measure), record.text("task")
            if why is not None and name is not None:
                key = Traced(measure, why.sources, "key")
                found.append(NotRun((name, " ", key), why.shown_as("sentence")))
    return found


def _tasks_not_run(run: Run) -> list[NotRun]:
    """Return the tasks that a stage asks for and of which no score, and no check, is there."""
    if run.config is None:
        return []
    judged = {str(row.find("subject")).split(" ")[0] for row in run.checks if is_skill_check(row)}
    told, missing = {*scores_by_task(run), *judged}, []
    begun = {row.find("stage") for row in run.metrics}
    for index, stage in enumerate(stage_names(run)):
        for number in range(len(run.config.items("stages", index, "evaluation", "skills"))):
            task = run.config.text("stages", index, "evaluation", "skills", number, "task")
            if task is None or task.value in told:
                continue
            told.add(str(task.value))
            why = "its stage has not begun"
            if stage.value in begun:
                why = "RUN/scores has no score of it"
            missing.append(NotRun((task, ", in ", stage), why))
    return missing


def _checks_not_run(run: Run) -> list[NotRun]:
    """Return the newest check of each skill, where that one was not run."""
    newest = {row.find("subject"): row for row in run.checks if _is_own(run, row)}
    found = []
    for row in newest.values():
        identity, why, stage = row.text("id"), row.text("why"), row.text("stage")
        if _is_missed(run, row) and identity and why and stage:
            what = (identity, " ", row.text("subject") or "", " after ", stage)
            found.append(NotRun(what, why.shown_as("sentence")))
    return found


def _is_own(run: Run, row: Record) -> bool:
    return is_skill_check(row) and run.belongs(row)


def _is_missed(run: Run, row: Record) -> bool:
    return _is_own(run, row) and row.find("result") == "not run"
