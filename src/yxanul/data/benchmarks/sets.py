"""Where the public benchmarks lie: on the hub, and in a folder with a file per set.

Splits and worked examples of the hub's are those of lm-evaluation-harness 0.4.13. A folder has what
others have published as single files, of which some hold other texts; where it has no training
split, examples come from the scored one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from yxanul.data.benchmarks import gsm8k, hellaswag, human_eval, triviaqa
from yxanul.data.benchmarks.fields import Fields
from yxanul.data.benchmarks.files import read_rows
from yxanul.data.items import Item

RowReader = Callable[[Fields, int], Item]
FileReader = Callable[[Path], Iterable[Item]]


@dataclass(frozen=True)
class PublicSet:
    """One benchmark's places."""

    hub_id: str
    hub_config: str | None
    split: str
    hub_shots: str | None
    """Split of the worked examples; None = the scored one."""
    file: str
    """Below the folder."""
    file_shots: str | None
    """File of the worked examples; None = the scored one."""
    from_hub: RowReader
    from_file: FileReader


def _rows(read: RowReader) -> FileReader:
    return lambda path: (read(row, number) for number, row in enumerate(read_rows(path)))


SETS = {
    "hellaswag": PublicSet(
        hub_id="Rowan/hellaswag",
        hub_config=None,
        split="validation",
        hub_shots="train",
        file="hellaswag/hellaswag_val_full.txt.bz2",
        file_shots=None,
        from_hub=hellaswag.from_hub,
        from_file=hellaswag.from_file,
    ),
    "triviaqa": PublicSet(
        hub_id="mandarjoshi/trivia_qa",
        hub_config="rc.nocontext",
        split="validation",
        hub_shots="train",
        file="triviaqa/triviaqa_sm_sub.jsonl",
        file_shots=None,
        from_hub=triviaqa.from_hub,
        from_file=_rows(triviaqa.from_row),
    ),
    "gsm8k": PublicSet(
        hub_id="openai/gsm8k",
        hub_config="main",
        split="test",
        hub_shots="train",
        file="gsm8k/test.jsonl",
        file_shots="gsm8k/train.jsonl",
        from_hub=gsm8k.from_row,
        from_file=_rows(gsm8k.from_row),
    ),
    "humaneval": PublicSet(
        hub_id="openai/openai_humaneval",
        hub_config=None,
        split="test",
        hub_shots=None,
        file="human-eval/HumanEval.jsonl.gz",
        file_shots=None,
        from_hub=human_eval.from_row,
        from_file=_rows(human_eval.from_row),
    ),
}
