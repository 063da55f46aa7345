"""Prompts: worked examples before an item, drawn and written as lm-evaluation-harness does.

The one idea: one generator with the harness' seed draws for item after item in their order, so the
first n items have the same prompts however many are scored.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace
from random import Random

from yxanul.data.items import AnswerItem, Benchmark, Item
from yxanul.errors import UsageError
from yxanul.evaluate.tasks.definitions import DEFINITIONS, before_answer, right_answer

SEED = 1234
_AFTER_EXAMPLE = "\n\n"


def build_prompts(benchmark: Benchmark, items: Sequence[Item], *, shots: int) -> list[str]:
    """Return the text before each item's answer, the first items of the benchmark in their order.

    Raises UsageError when there are not enough worked examples.
    """
    if not shots:
        return [item.prompt for item in items]
    task, pool = benchmark.task, benchmark.shots
    # An example that is the item itself would tell the answer.
    spare = DEFINITIONS[task].spare_example or pool == benchmark.items
    if len(pool) < shots + spare:
        raise UsageError(
            f"{task} has {len(pool)} worked examples, too few for {shots} before each item: lower "
            "--shots (in a stage's file: evaluation.skills, shots)"
        )
    draw = Random(SEED)
    prompts = []
    for item in items:
        examples = draw.sample(pool, shots + spare)
        if spare:
            examples = _without(item, examples, pool=pool, shots=shots, draw=draw)
        prompts.append("".join(_written(task, one) for one in examples) + item.prompt)
    return prompts


def prompts_sha256(prompts: Sequence[str]) -> str:
    """Return the hash of the prompts in their order."""
    return hashlib.sha256(json.dumps(list(prompts)).encode()).hexdigest()


def _without(
    item: Item, examples: list[Item], *, pool: Sequence[Item], shots: int, draw: Random
) -> list[Item]:
    """Drop the item, and all that reads the same, from the drawn examples."""
    others = [one for one in examples if not _same(one, item)][:shots]
    if len(others) == shots:
        return others
    # The set holds the item several times, and more than one was drawn.
    return draw.sample([one for one in pool if not _same(one, item)], shots)


def _same(one: Item, other: Item) -> bool:
    return replace(one, id=other.id, cluster=other.cluster) == other


def _written(task: str, item: Item) -> str:
    shown = right_answer(item)
    if isinstance(item, AnswerItem) and item.aliases and task == "triviaqa":
        shown = item.aliases[0]  # as the harness does, though it may be an odd spelling
    return f"{item.prompt}{before_answer(task, item)}{shown}{_AFTER_EXAMPLE}"
