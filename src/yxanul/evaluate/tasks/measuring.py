"""Puts a task's items to a model: endings are compared, right answers weighed, answers written."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from yxanul.config.evaluation import TASKS
from yxanul.data.benchmarks.items import AnswerItem, ChoiceItem, ProgramItem
from yxanul.evaluate.language_model import LanguageModel
from yxanul.evaluate.requests import WritingRequest
from yxanul.evaluate.sandbox import run_programs, sandbox_level
from yxanul.evaluate.tasks.asking import Asked, finite_nats, gold_measures, right_answers
from yxanul.evaluate.tasks.definitions import DEFINITIONS
from yxanul.evaluate.tasks.judging import WRITTEN, likeliest, likeliest_per_character
from yxanul.evaluate.tasks.options import TaskOptions
from yxanul.evaluate.writing import write

PASS = "pass_at_1"
_PASSED = "passed"
_NOT_ASKED = "written answers were not asked for"
Measures = dict[str, list[float]]


@dataclass(frozen=True)
class Taken:
    """What was measured, as in `runfolder.items.TaskScore`."""

    measures: Measures
    texts: list[str] | None = None
    sandbox: str | None = None
    not_run: dict[str, str] = field(default_factory=dict)


def compare_endings(
    model: LanguageModel, asked: Asked, items: Sequence[ChoiceItem], options: TaskOptions
) -> Taken:
    """Measure whether the right ending is the likeliest: as it stands, and per character."""
    requests = [asked.after(n, *item.choices) for n, item in enumerate(items)]
    nats = finite_nats(model, asked, requests, batch_tokens=options.batch_tokens)
    pairs = list(zip(items, nats, strict=True))
    right = [item.answer == likeliest(costs) for item, costs in pairs]
    normed = [item.answer == likeliest_per_character(costs, item.choices) for item, costs in pairs]
    gold = gold_measures([costs[item.answer] for item, costs in pairs], right_answers(asked))
    return Taken({"acc": _as_numbers(right), "acc_norm": _as_numbers(normed), **gold})


def judge_answers(
    model: LanguageModel, asked: Asked, items: Sequence[AnswerItem], options: TaskOptions
) -> Taken:
    """Weigh the right answers, let the model write its own and judge them."""
    gold = weigh_right_answers(model, asked, options)
    judges = WRITTEN[asked.task]
    if not options.answers and TASKS[asked.task].gates_by not in judges:
        return Taken(gold, not_run=dict.fromkeys(judges, _NOT_ASKED))
    texts = write_answers(model, asked, options)
    judged = {
        measure: _as_numbers(is_right(*pair) for pair in zip(texts, items, strict=True))
        for measure, is_right in judges.items()
    }
    return Taken({**judged, **gold}, texts=texts)


def run_answers(
    model: LanguageModel, asked: Asked, items: Sequence[ProgramItem], options: TaskOptions
) -> Taken:
    """Weigh the canonical solutions, let the model write its own and run them in the sandbox.

    Where the sandbox is refused nothing is written, and pass_at_1 is not run with that reason.
    """
    gold = weigh_right_answers(model, asked, options)
    if not options.answers:
        return Taken(gold, not_run={PASS: _NOT_ASKED})
    level = sandbox_level()
    if not level.runs_programs:
        return Taken(gold, not_run={PASS: level.why})
    texts = write_answers(model, asked, options)
    programs = [_program(item, text) for item, text in zip(items, texts, strict=True)]
    passed = [outcome.result == _PASSED for outcome in run_programs(programs)]
    return Taken({PASS: _as_numbers(passed), **gold}, texts=texts, sandbox=level.name)


def weigh_right_answers(model: LanguageModel, asked: Asked, options: TaskOptions) -> Measures:
    """Measure the nats and bytes of the right answers."""
    requests = right_answers(asked)
    nats = finite_nats(model, asked, requests, batch_tokens=options.batch_tokens)
    return gold_measures([costs[0] for costs in nats], requests)


def write_answers(model: LanguageModel, asked: Asked, options: TaskOptions) -> list[str]:
    """Return what the model writes after each prompt."""
    return write(model, writing_requests(asked, options), batch=options.batch)


def writing_requests(asked: Asked, options: TaskOptions) -> list[WritingRequest]:
    """Return a request for each item's answer."""
    definition = DEFINITIONS[asked.task]
    longest = options.max_new_tokens or definition.max_new_tokens
    return [WritingRequest(one, definition.stop_texts, longest) for one in asked.prompts]


def _program(item: ProgramItem, written: str) -> str:
    return f"{item.prompt}{written}\n{item.test}\ncheck({item.entry_point})"


def _as_numbers(right: Iterable[bool]) -> list[float]:
    return [float(one) for one in right]
