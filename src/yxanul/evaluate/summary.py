"""What a score says in a table: its measures with their errors, and the one that stands for it.

Errors are lm-evaluation-harness' own: sample standard deviation / sqrt(n), items as independent and
unpaired. A gate uses neither (`yxanul.curriculum`): it compares item with item.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from yxanul.config.evaluation import TASKS
from yxanul.evaluate.perplexity import DomainPerplexity
from yxanul.evaluate.ratio import ratio_stderr
from yxanul.runfolder.items import BYTES, NATS, TaskScore

GOLD = "gold_bpb"


@dataclass(frozen=True)
class Figure:
    """A measure over all items."""

    value: float
    stderr: float | None
    """None for a single item."""
    is_rate: bool
    """Whether it is a share of the items."""


def figures(score: TaskScore) -> dict[str, Figure]:
    """Return a score's measures; gold_bpb stands for nats and bytes."""
    found = {
        measure: Figure(score.rate(measure), mean_stderr(values), True)
        for measure, values in score.measures.items()
        if measure not in (NATS, BYTES)
    }
    if score.has(GOLD):
        stderr = ratio_stderr(score.measures[NATS], score.measures[BYTES])
        found[GOLD] = Figure(
            score.gold_bpb(), None if stderr is None else stderr / math.log(2), False
        )
    return found


def headline(score: TaskScore) -> str:
    """Return the measure that stands for the task, or where it was not run the gating one."""
    facts = TASKS[score.task]
    return facts.headline if score.has(facts.headline) else facts.gates_by


def mean_stderr(values: Sequence[float]) -> float | None:
    """Return the standard error of a mean."""
    n = len(values)
    if n < 2:
        return None
    mean = math.fsum(values) / n
    return math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (n - 1) / n)


def domain_figures(cost: DomainPerplexity) -> dict[str, Figure]:
    """Return bits per byte, loss (nats per token of the model's own) and perplexity of a text."""
    loss = Figure(cost.loss, cost.loss_stderr, False)
    # The error of exp(x) is exp(x) times that of x, to first order.
    around = None if loss.stderr is None else cost.perplexity * loss.stderr
    return {
        "bpb": Figure(cost.bpb, cost.bpb_stderr, False),
        "loss": loss,
        "perplexity": Figure(cost.perplexity, around, False),
    }


def pooled(domains: Mapping[str, DomainPerplexity]) -> DomainPerplexity:
    """Return the documents of all domains as one text."""
    return DomainPerplexity([one for domain in domains.values() for one in domain.documents])
