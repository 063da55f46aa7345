"""TriviaQA: a question of general knowledge and all spellings of its answer (arXiv 1705.03551)."""

from __future__ import annotations

from yxanul.data.benchmarks.fields import Fields
from yxanul.data.items import AnswerItem


def from_hub(row: Fields, number: int) -> AnswerItem:
    """Return the item of a row of mandarjoshi/trivia_qa, configuration rc.nocontext.

    The harness puts a question mark after the question, which usually has one already.
    """
    answer = row.inner("answer")
    return AnswerItem(
        id=str(number),
        prompt=f"Question: {row.text('question')}?\nAnswer:",
        answer=answer.text("value"),
        aliases=answer.texts("aliases"),
        # The set has some questions twice, once from the web and once from Wikipedia.
        cluster=row.text("question_id"),
    )


def from_row(row: Fields, number: int) -> AnswerItem:
    """Return the item of a line of a folder's file, whose prompt is whole."""
    return AnswerItem(str(number), row.text("context"), row.text("answer"), row.texts("aliases"))
