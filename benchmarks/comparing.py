"""Our scores of a task beside lm-evaluation-harness', item by item."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.harness import HarnessItem, likelihood, run_task
from yxanul.data.items import Benchmark, ChoiceItem
from yxanul.evaluate.answers.answering import OneModel
from yxanul.evaluate.models.language_model import LanguageModel
from yxanul.evaluate.tasks.asking import Asked, Interview
from yxanul.evaluate.tasks.gold import right_answers
from yxanul.evaluate.tasks.options import TaskOptions
from yxanul.evaluate.tasks.score import ask, score_task
from yxanul.evaluate.unheard import Unwatched
from yxanul.runfolder.skill_scores import NATS, TaskScore

TOLERANCE_NATS = 1e-4
# Or of a long answer so much of its nats: the harness adds them up in fp32, which at 700 nats has
# steps of 6e-5.
TOLERANCE_SHARE = 1e-6
# Measures that the harness takes; it weighs no right answers, and runs HumanEval unguarded.
_COMPARED = ("acc", "acc_norm", "exact_match", "exact_match_flexible")


@dataclass(frozen=True)
class Comparison:
    """How far our figures of a task are from the harness'."""

    score: TaskScore
    theirs: list[HarnessItem]
    prompts: int
    """Items whose prompts differ."""
    texts: int
    """Items whose written texts differ, of those that were written."""
    judged: dict[str, int]
    """{measure: items that were judged otherwise}."""
    nats: list[tuple[float, float]]
    """(ours, theirs) of each ending, or of each right answer."""

    @property
    def agrees(self) -> bool:
        """Whether nothing differs but likelihoods in their last digits."""
        differ = self.prompts + self.texts + sum(self.judged.values())
        return not differ and all(
            abs(a - b) <= max(TOLERANCE_NATS, TOLERANCE_SHARE * b) for a, b in self.nats
        )

    @property
    def largest(self) -> float:
        """The largest difference in nats."""
        return max(abs(a - b) for a, b in self.nats)

    @property
    def largest_share(self) -> float:
        """The largest difference as a share of the nats."""
        return max(abs(a - b) / b for a, b in self.nats)

    def mean(self, measure: str) -> float:
        """Return the harness' own figure."""
        return sum(item.measures[measure] for item in self.theirs) / len(self.theirs)


def compare(
    model: LanguageModel, lm: Any, benchmark: Benchmark, options: TaskOptions, *, folder: Path
) -> Comparison:
    """Score a task by both; `folder` holds the harness' definition over the same local files.

    `lm` is a model of the harness with the same weights.
    """
    asked = ask(benchmark, options)
    score = score_task(model, benchmark, options=options)
    theirs = run_task(folder, benchmark.task, lm, shots=score.shots, limit=options.limit)
    pairs = list(zip(asked.prompts, theirs, strict=True))
    written: Sequence[str | None] = score.texts or [item.written for item in theirs]
    return Comparison(
        score=score,
        theirs=theirs,
        prompts=sum(prompt != item.prompt for prompt, item in pairs),
        texts=sum(text != item.written for text, item in zip(written, theirs, strict=True)),
        judged={
            name: sum(a != b.measures[name] for a, b in zip(values, theirs, strict=True))
            for name, values in score.measures.items()
            if name in _COMPARED
        },
        nats=_pairs_of_nats(model, lm, asked, options, score=score, theirs=theirs),
    )


def _pairs_of_nats(
    model: LanguageModel,
    lm: Any,
    asked: Asked,
    options: TaskOptions,
    *,
    score: TaskScore,
    theirs: list[HarnessItem],
) -> list[tuple[float, float]]:
    if not all(isinstance(item, ChoiceItem) for item in asked.items):
        found = likelihood(lm, [(one.context, one.texts[0]) for one in right_answers(asked)])
        return list(zip(score.measures[NATS], found, strict=True))
    requests = [
        asked.after(n, *item.choices)
        for n, item in enumerate(asked.items)
        if isinstance(item, ChoiceItem)
    ]
    assert [one.texts for one in requests] == [item.texts for item in theirs]
    nats = Interview(model, options, Unwatched(), OneModel(model)).nats(asked, requests)
    return [
        pair
        for ours, item in zip(nats, theirs, strict=True)
        for pair in zip(ours, item.nats, strict=True)
    ]
