"""What a score says in a table: its measures with their errors, and the one that stands for it.

Errors are lm-evaluation-harness' own: sample standard deviation / sqrt(n), items as independent and
unpaired. A gate uses neither (`yxanul.curriculum`): it compares item with item.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from yxanul.config.evaluation import GOLD, TASKS
from yxanul.curriculum.statistics.intervals import Z_95, wilson
from yxanul.evaluate.perplexity import DomainPerplexity
from yxanul.evaluate.ratio import ratio_stderr
from yxanul.runfolder.skill_scores import BYTES, NATS, TaskScore


@dataclass(frozen=True)
class Figure:
    """A measure over n items or documents."""

    value: float
    stderr: float | None
    """None for a single item."""
    n: int
    is_rate: bool = False
    """Whether it is a share of the items."""

    @property
    def interval(self) -> tuple[float, float] | None:
        """95 %: Wilson's for a rate, which a small one needs, 1.96 standard errors for another."""
        if self.is_rate:
            return wilson(self.value * self.n, self.n)
        if self.stderr is None:
            return None
        return self.value - Z_95 * self.stderr, self.value + Z_95 * self.stderr


def figures(score: TaskScore) -> dict[str, Figure]:
    """Return a score's measures; gold_bpb stands for nats and bytes."""
    found = {
        measure: Figure(
            score.rate(measure),
            ratio_stderr(values, [1.0] * len(values)),
            len(values),
            is_rate=True,
        )
        for measure, values in score.measures.items()
        if measure not in (NATS, BYTES)
    }
    if score.has(GOLD):
        error = ratio_stderr(score.measures[NATS], score.measures[BYTES])
        bits = None if error is None else error / math.log(2)
        found[GOLD] = Figure(score.gold_bpb(), bits, len(score.ids))
    return found


def headline(score: TaskScore) -> str:
    """Return the measure that stands for the task, or where it was not run the gating one."""
    facts = TASKS[score.task]
    return facts.headline if score.has(facts.headline) else facts.gates_by


def domain_figures(cost: DomainPerplexity) -> dict[str, Figure]:
    """Return bits per byte, loss (nats per token of the model's own) and perplexity of a text."""
    n = len(cost.documents)
    loss = Figure(cost.loss, cost.loss_stderr, n)
    # The error of exp(x) is exp(x) times that of x, to first order.
    around = None if loss.stderr is None else cost.perplexity * loss.stderr
    return {
        "bpb": Figure(cost.bpb, cost.bpb_stderr, n),
        "loss": loss,
        "perplexity": Figure(cost.perplexity, around, n),
    }


def pooled(domains: Mapping[str, DomainPerplexity]) -> DomainPerplexity:
    """Return the documents of all domains as one text."""
    return DomainPerplexity([one for domain in domains.values() for one in domain.documents])
