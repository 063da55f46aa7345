"""What makes a task the one of that name: version, worked examples, where an answer ends.

Those of hellaswag, triviaqa, gsm8k and humaneval are lm-evaluation-harness 0.4.13's, and so are
their versions; cloze and gsm_symbolic are ours.
"""

from __future__ import annotations

from dataclasses import dataclass

from yxanul.data.items import AnswerItem, ChoiceItem, Item


@dataclass(frozen=True)
class Definition:
    """How a task is put to a model."""

    version: str
    spare_example: bool = True
    """Whether one example more is drawn, and the item itself is dropped from those drawn. The
    harness does so unless the examples' split is named and is not the scored one."""
    always_a_space: bool = True
    """Whether the answer follows one space whatever the prompt ends in."""
    stop_texts: tuple[str, ...] = ()
    """A written answer ends before the first of these, and at the end of the document."""


DEFINITIONS = {
    "hellaswag": Definition("1.0"),
    "triviaqa": Definition("3.0", stop_texts=("\n", ".", ",")),
    "gsm8k": Definition("3.0", spare_example=False, stop_texts=("Question:", "</s>", "<|im_end|>")),
    "humaneval": Definition(
        "1.0",
        always_a_space=False,
        stop_texts=("\nclass", "\ndef", "\n#", "\nif", "\nprint"),
    ),
    "cloze": Definition("1.0", always_a_space=False),
    "gsm_symbolic": Definition("1.0", always_a_space=False, stop_texts=("Question:",)),
}


def before_answer(task: str, item: Item) -> str:
    """Return what stands between an item's prompt and its answer: a space or nothing."""
    if DEFINITIONS[task].always_a_space or not item.prompt[-1:].isspace():
        return " "
    return ""


def right_answer(item: Item) -> str:
    """Return the right answer: of several spellings the one that its set names first of all.

    That is TriviaQA's `value`, GSM8K's whole solution, HumanEval's canonical one.
    """
    if isinstance(item, ChoiceItem):
        return item.choices[item.answer]
    return item.answer if isinstance(item, AnswerItem) else item.solution
