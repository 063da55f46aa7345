"""Scores a model in a task, item by item, and says of what items and prompts the score is."""

from __future__ import annotations

from dataclasses import replace

from yxanul.config.evaluation import TASKS
from yxanul.data.items import (
    AnswerItem,
    Benchmark,
    ChoiceItem,
    ProgramItem,
    cluster_of,
)
from yxanul.data.progress import Watcher
from yxanul.errors import UsageError
from yxanul.evaluate.answers.answering import Answers, OneModel
from yxanul.evaluate.models.language_model import LanguageModel
from yxanul.evaluate.tasks.asking import Asked, Interview
from yxanul.evaluate.tasks.definitions import DEFINITIONS
from yxanul.evaluate.tasks.measuring import Taken, compare_endings, judge_answers, run_answers
from yxanul.evaluate.tasks.options import TaskOptions
from yxanul.evaluate.tasks.prompts import build_prompts, prompts_sha256
from yxanul.evaluate.unheard import Unwatched
from yxanul.runfolder.skill_scores import TaskScore


def ask(benchmark: Benchmark, options: TaskOptions) -> Asked:
    """Return the items that the options choose, each with its prompt.

    Raises UsageError for a benchmark without items, or without enough worked examples.
    """
    items = benchmark.items[: options.limit]
    if not items:
        raise UsageError(f"{benchmark.task} has no items to score: bring its set back")
    prompts = build_prompts(benchmark, items, shots=shots_of(benchmark.task, options))
    return Asked(benchmark.task, items, tuple(prompts))


def shots_of(task: str, options: TaskOptions) -> int:
    """Return the number of worked examples before each item."""
    return TASKS[task].shots if options.shots is None else options.shots


def score_task(
    model: LanguageModel,
    benchmark: Benchmark,
    *,
    options: TaskOptions,
    watcher: Watcher | None = None,
    answers: Answers | None = None,
) -> TaskScore:
    """Return a model's score in a task; `answers` come from whoever answers for it, else from it.

    Raises NumericsError for an item whose likelihood is not finite, UsageError as `ask`.
    """
    asked = ask(benchmark, options)
    interview = Interview(model, options, watcher or Unwatched(), answers or OneModel(model))
    taken = _take(interview, asked)
    clusters = [cluster_of(item) for item in asked.items]
    return TaskScore(
        task=asked.task,
        version=DEFINITIONS[asked.task].version,
        shots=shots_of(asked.task, options),
        origin=benchmark.origin,
        prompts_sha256=prompts_sha256(asked.prompts),
        items_sha256=replace(benchmark, items=asked.items).sha256,
        ids=[item.id for item in asked.items],
        measures=taken.measures,
        clusters=clusters if len(set(clusters)) < len(clusters) else None,
        texts=taken.texts,
        max_new_tokens=taken.max_new_tokens,
        cut_prompts=interview.cut_prompts(asked, room=taken.max_new_tokens or 0),
        sandbox=taken.sandbox,
        lacked_module=taken.lacked_module,
        not_run=taken.not_run,
    )


def _take(interview: Interview, asked: Asked) -> Taken:
    choices = [item for item in asked.items if isinstance(item, ChoiceItem)]
    answers = [item for item in asked.items if isinstance(item, AnswerItem)]
    programs = [item for item in asked.items if isinstance(item, ProgramItem)]
    if choices:
        return compare_endings(interview, asked, items=choices)
    if answers:
        return judge_answers(interview, asked, items=answers)
    return run_answers(interview, asked, items=programs)
