"""What a task's score depends on and its figures do not tell, in the same words everywhere."""

from __future__ import annotations

from collections.abc import Iterator

from yxanul.config.evaluation import TASKS
from yxanul.runfolder.items import TaskScore


def conditions(score: TaskScore) -> Iterator[str]:
    """Yield a clause for each thing that the model, or a program of its, was kept from."""
    items, longest, facts = len(score.ids), score.max_new_tokens, TASKS.get(score.task)
    if facts is not None and longest is not None and longest < facts.max_new_tokens:
        yield f"answers ended after {longest:,} tokens, not the task's {facts.max_new_tokens:,}"
    if score.cut_prompts:
        yield (
            f"{score.cut_prompts:,} of {items:,} prompts lost their beginning: the model has no "
            "more positions"
        )
    if score.lacked_module:
        yield (
            f"{score.lacked_module:,} of {items:,} programs failed for want of a module: the "
            "sandbox has the standard library alone"
        )
