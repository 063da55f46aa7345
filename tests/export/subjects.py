"""Small models to export, in memory and in run folders."""

from pathlib import Path

from tests.evaluate.runs import add_checkpoint, write_run
from tests.model.tiny import model_with_norms, shape
from yxanul.data.tokenizer import EOT, load_tokenizer
from yxanul.export.checks import Subject
from yxanul.report.model_card import plain_card
from yxanul.runfolder.layout import RunFolder

HELD_OUT = ("The miller carried three sacks of grain.", "Question: what is 3 plus 4?\nAnswer: 7.")


def subject(**changes: object) -> Subject:
    """A model with norms that are not 0, grouped keys, and GPT-2's vocabulary."""
    values = {"vocab_size": 50257, "num_key_value_heads": 2, "intermediate_size": 96, **changes}
    values.setdefault("initializer_range", 0.3)  # says more than one word
    tokenizer = load_tokenizer()
    held_out = [[EOT, *tokenizer.encode(text)] for text in HELD_OUT]
    return Subject(model_with_norms(shape(**values)), tokenizer, held_out)


def run_with_checkpoints(root: Path, steps: tuple[int, ...] = (3,)) -> RunFolder:
    """A run folder with checkpoints of other weights each."""
    run = write_run(root)
    for step in steps:
        add_checkpoint(run, step)
    return run


def card_and_example(one: Subject, folder: Path) -> tuple[str, str]:
    """The card of an export that lies in `folder`, and the program that stands in it."""
    card = plain_card(folder, one.model.config)
    example = card.split("```python\n")[1].split("```")[0]
    return card, example.replace("FOLDER", repr(str(folder)))
