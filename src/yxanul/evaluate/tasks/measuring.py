"""The measures of a task: endings compared, right answers weighed, written answers judged."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from yxanul.config.evaluation import TASKS
from yxanul.cores import usable_cores
from yxanul.data.items import AnswerItem, ChoiceItem, ProgramItem
from yxanul.data.progress import Watcher
from yxanul.errors import InfrastructureError
from yxanul.evaluate.sandbox.level import sandbox_level
from yxanul.evaluate.sandbox.outcome import ProgramOutcome
from yxanul.evaluate.sandbox.programs import run_programs
from yxanul.evaluate.tasks.asking import Asked, Interview, pieces
from yxanul.evaluate.tasks.gold import gold_measures, right_answers
from yxanul.evaluate.tasks.judging import WRITTEN, likeliest, likeliest_per_character

PASS = "pass_at_1"
_PASSED = "passed"
_NO_MODULE = "ModuleNotFoundError:"
_NOT_ASKED = "written answers were not asked for"
# Programs that are run between two signs of progress: each takes six seconds at most.
_PROGRAMS_PER_CORE = 4
Measures = dict[str, list[float]]


@dataclass(frozen=True)
class Taken:
    """What was measured, as in `runfolder.skill_scores.TaskScore`."""

    measures: Measures
    texts: list[str] | None = None
    max_new_tokens: int | None = None
    sandbox: str | None = None
    lacked_module: int = 0
    not_run: dict[str, str] = field(default_factory=dict)


def compare_endings(interview: Interview, asked: Asked, *, items: Sequence[ChoiceItem]) -> Taken:
    """Measure whether the right ending is the likeliest: as it stands, and per character."""
    requests = [asked.after(n, *item.choices) for n, item in enumerate(items)]
    pairs = list(zip(items, interview.nats(asked, requests), strict=True))
    right = [item.answer == likeliest(nats) for item, nats in pairs]
    normed = [item.answer == likeliest_per_character(nats, item.choices) for item, nats in pairs]
    gold = gold_measures([nats[item.answer] for item, nats in pairs], right_answers(asked))
    return Taken({"acc": _as_numbers(right), "acc_norm": _as_numbers(normed), **gold})


def judge_answers(interview: Interview, asked: Asked, *, items: Sequence[AnswerItem]) -> Taken:
    """Weigh the right answers, let the model write its own and judge them."""
    gold = weigh_right_answers(interview, asked)
    judges = WRITTEN[asked.task]
    if not interview.options.answers and TASKS[asked.task].gates_by not in judges:
        return Taken(gold, not_run=dict.fromkeys(judges, _NOT_ASKED))
    texts = interview.write(asked)
    judged = {
        measure: _as_numbers(is_right(*pair) for pair in zip(texts, items, strict=True))
        for measure, is_right in judges.items()
    }
    longest = interview.max_new_tokens(asked.task)
    return Taken({**judged, **gold}, texts=texts, max_new_tokens=longest)


def run_answers(interview: Interview, asked: Asked, *, items: Sequence[ProgramItem]) -> Taken:
    """Weigh the canonical solutions, let the model write its own and run them in the sandbox.

    Where the sandbox is refused, or a full disk lets nobody find out, nothing is written, and
    pass_at_1 is not run with that reason; nor is it where the sandbox of a program could not be set
    up: what is only told ends no run.
    """
    gold = weigh_right_answers(interview, asked)
    if not interview.options.answers:
        return Taken(gold, not_run={PASS: _NOT_ASKED})
    try:
        level = sandbox_level()
    except (InfrastructureError, OSError) as error:
        return Taken(gold, not_run={PASS: f"the sandbox could not be tried out: {error}"})
    if not level.runs_programs:
        return Taken(gold, not_run={PASS: level.why})
    texts = interview.write(asked)
    programs = [_program(item, text) for item, text in zip(items, texts, strict=True)]
    written = Taken(gold, texts=texts, max_new_tokens=interview.max_new_tokens(asked.task))
    try:
        outcomes = _run_watched(programs, task=asked.task, watcher=interview.watcher)
    except (InfrastructureError, OSError) as error:
        return replace(written, not_run={PASS: str(error)})
    passed = _as_numbers(outcome.result == _PASSED for outcome in outcomes)
    lacked = sum(outcome.detail.startswith(_NO_MODULE) for outcome in outcomes)
    measures = {PASS: passed, **gold}
    return replace(written, measures=measures, sandbox=level.name, lacked_module=lacked)


def _run_watched(programs: Sequence[str], *, task: str, watcher: Watcher) -> list[ProgramOutcome]:
    """Run the programs some at a time, so that whoever watches hears of them."""
    watcher.begin(f"{task}: programs", total=len(programs))
    outcomes: list[ProgramOutcome] = []
    for piece in pieces(programs, _PROGRAMS_PER_CORE * usable_cores()):
        outcomes += run_programs(piece)
        watcher.advance(len(piece))
    return outcomes


def weigh_right_answers(interview: Interview, asked: Asked) -> Measures:
    """Measure the nats and bytes of the right answers."""
    requests = right_answers(asked)
    return gold_measures([nats[0] for nats in interview.nats(asked, requests)], requests)


def _program(item: ProgramItem, written: str) -> str:
    return f"{item.prompt}{written}\n{item.test}\ncheck({item.entry_point})"


def _as_numbers(right: Iterable[bool]) -> list[float]:
    return [float(one) for one in right]
