"""Rows of G4: a rate (cloze) and the bits per byte of right answers (gsm_symbolic), a family."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.calibrating_domains import WRONG
from benchmarks.planting import HeldOutText, trained_on, with_weight_noise
from benchmarks.trials import Generator, Pair, Table, Trial, drawn, sizes_that_find, tossed
from yxanul.config.evaluation import TASKS
from yxanul.curriculum.checks.check import Check
from yxanul.curriculum.checks.skills import SkillEvidence, skill_checks
from yxanul.curriculum.statistics.bootstrap import rate_change, relative_change
from yxanul.data.benchmarks.cloze import cloze
from yxanul.data.benchmarks.gsm_symbolic import gsm_symbolic
from yxanul.data.items import Benchmark
from yxanul.data.tokenizer import load_tokenizer
from yxanul.evaluate.models.ours import as_language_model
from yxanul.evaluate.tasks.options import TaskOptions
from yxanul.evaluate.tasks.score import score_task
from yxanul.model.transformer import Transformer
from yxanul.runfolder.skill_scores import NATS

CLOZE, GOLD = "cloze", "gsm_symbolic"
MARGINS = {task: TASKS[task].margin for task in (CLOZE, GOLD)}


@dataclass(frozen=True)
class Skills:
    """The items of both tasks."""

    sets: Mapping[str, Benchmark]

    def scores(self, model: Transformer, task: str) -> np.ndarray:
        """Return right or wrong per item (items,) of cloze, nats per template of gsm_symbolic."""
        reader = as_language_model(model, load_tokenizer(), name="calibration")
        score = score_task(reader, self.sets[task], options=TaskOptions(answers=False))
        if task == CLOZE:
            return np.asarray(score.measures["acc"])
        sums: dict[str, float] = dict.fromkeys(score.clusters or score.ids, 0.0)
        for name, nats in zip(score.clusters or score.ids, score.measures[NATS], strict=True):
            sums[name] += nats
        return np.asarray(list(sums.values()))


def calibrate_skills(table: Table, text: HeldOutText, *, models: Sequence[Transformer]) -> None:
    """Print the rows; one skill at a time is planted."""
    where = text.manifest, text.root
    skills = Skills({CLOZE: cloze(*where), GOLD: gsm_symbolic(*where)})
    base, other = ({task: skills.scores(model, task) for task in MARGINS} for model in models)
    pools = {task: (base[task], other[task]) for task in MARGINS}
    own = {task: len(base[task]) for task in MARGINS}
    print(
        f"G4: {own[CLOZE]} items of cloze, {base[CLOZE].mean():.1%} right, "
        f"{(base[CLOZE] != other[CLOZE]).mean():.1%} another way by the other seed; "
        f"{own[GOLD]} templates of gsm_symbolic",
        flush=True,
    )
    for sizes in (own, {task: 4 * n for task, n in own.items()}):
        label = f"G4 2 points, 2 %, {sizes[CLOZE]:,} items and {sizes[GOLD]} templates: "
        table.row(f"{label}identical", _unchanged(pools, sizes, is_worse=False))
        table.row(f"{label}at the limit", _unchanged(pools, sizes, is_worse=True))
    for task in MARGINS:
        for how, after in _worse(text, models[0], skills=skills, task=task, before=base[task]):
            judge = rate_change if task == CLOZE else relative_change
            change = judge(base[task].tolist(), after.tolist())
            gap = abs(change.value) - MARGINS[task]
            for n in sizes_that_find(change, gap=gap, family=2, own=own[task]):
                told = f"G4 {task} {change.value:+.2%} by {how}, {n:,} of them"
                trial = _planted(pools, own, planted=(task, (base[task], after), n))
                table.row(told, trial, items=n)


def _worse(
    text: HeldOutText, model: Transformer, *, skills: Skills, task: str, before: np.ndarray
) -> Iterator[tuple[str, np.ndarray]]:
    """Yield (how, scores) of models that lost twice the margin of a task."""

    def lost(worse: Transformer) -> float:
        after = skills.scores(worse, task)
        return _loss(before, after, task=task)

    target = 2 * MARGINS[task]
    yield "noise", skills.scores(with_weight_noise(model, lost, target=target), task)
    rows = text.training_rows(WRONG)
    pupil = trained_on(model, lost, target=target, rows=rows)
    if pupil is not None:
        yield WRONG, skills.scores(pupil, task)


def _loss(before: np.ndarray, after: np.ndarray, *, task: str) -> float:
    if task == CLOZE:
        return float(before.mean() - after.mean())
    return float(after.sum() / before.sum() - 1)


def _unchanged(pools: Mapping[str, Pair], sizes: Mapping[str, int], *, is_worse: bool) -> Trial:
    def trial(generator: Generator) -> list[Check]:
        pairs = tossed(pools, sizes, generator=generator)
        if is_worse:
            (old, new), (nats, more) = pairs[CLOZE], pairs[GOLD]
            # Of the right answers so many become wrong that the margin is lost on average.
            right = float(np.concatenate(pools[CLOZE]).mean())
            kept = generator.random(len(new)) >= MARGINS[CLOZE] / right
            pairs = {CLOZE: (old, new * kept), GOLD: (nats, more * (1 + MARGINS[GOLD]))}
        return _judged(pairs)

    return trial


def _planted(
    pools: Mapping[str, Pair], sizes: Mapping[str, int], *, planted: tuple[str, Pair, int]
) -> Trial:
    task, pool, n = planted
    others = {name: pair for name, pair in pools.items() if name != task}

    def trial(generator: Generator) -> list[Check]:
        pairs = tossed(others, sizes, generator=generator)
        pairs |= drawn({task: pool}, {task: n}, generator=generator)
        return _judged(pairs)

    return trial


def _judged(pairs: Mapping[str, Pair]) -> list[Check]:
    return skill_checks(
        [
            SkillEvidence(
                task,
                TASKS[task].gates_by,
                "rate" if TASKS[task].is_rate else "bpb",
                gates=True,
                margin=MARGINS[task],
                before=before.tolist(),
                after=after.tolist(),
            )
            for task, (before, after) in pairs.items()
        ]
    )
