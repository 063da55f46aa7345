"""What a task's score depends on and its figures do not tell, in the same words everywhere."""

from __future__ import annotations

from collections.abc import Iterator

from yxanul.config.evaluation import TASKS
from yxanul.runfolder.skill_scores import TaskScore

# Files (docs/evaluation.md) whose items, or their prompts, are not those of the hub's set.
_OTHER_FILES = ("hellaswag_val_full.txt.bz2,", "triviaqa_sm_sub.jsonl,")


def other_texts(score: TaskScore) -> str:
    """Return what is to be said where the items are not the hub's; else nothing."""
    is_other = score.origin.startswith(_OTHER_FILES)
    return "other texts than the hub's: not comparable with published scores" if is_other else ""


def conditions(score: TaskScore) -> Iterator[str]:
    """Yield a clause for items of other texts, and for each thing that the model was kept from."""
    if texts := other_texts(score):
        yield f"its items are {texts}"
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
