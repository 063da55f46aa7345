"""Prompts, likelihoods, written texts and judgements are those of lm-evaluation-harness: the same
small model is scored by both over the same rows in the hub's schema, item by item."""

from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.comparing import compare
from benchmarks.gemma import as_gemma, gpt2_tokenizer
from benchmarks.harness import write_json_lines, write_task
from tests.data.bench_rows import gsm8k_rows, hellaswag_rows, humaneval_rows, triviaqa_rows
from tests.model.tiny import model_with_norms, shape
from yxanul.data.benchmarks import gsm8k, hellaswag, human_eval, triviaqa
from yxanul.data.benchmarks.fields import Fields
from yxanul.data.items import Benchmark, Item
from yxanul.data.tokenizer import VOCAB_SIZE, load_tokenizer
from yxanul.evaluate.models.ours import as_language_model
from yxanul.evaluate.tasks.options import TaskOptions

ITEMS, NEW_TOKENS = 5, 12
OPTIONS = TaskOptions(limit=ITEMS, max_new_tokens=NEW_TOKENS, batch=3, batch_tokens=600)
Rows = list[dict[str, Any]]


@pytest.fixture(scope="module")
def models():
    """The same weights as ours and as the harness' Hugging Face model."""
    pytest.importorskip("accelerate", reason="lm-evaluation-harness' own class needs accelerate")
    from lm_eval.models.huggingface import HFLM

    config = shape(vocab_size=VOCAB_SIZE, max_position_embeddings=640)
    model = model_with_norms(config)
    tokenizer = load_tokenizer()
    frequent = tokenizer.encode(".,\n## 7 12$Question:\ndef")
    with torch.no_grad():
        # So that it says many words, and now and then what ends an answer or is a number.
        for name, parameter in model.named_parameters():
            parameter.mul_(15.0 if "proj" in name else 1.0)
        model.embed_tokens.weight[frequent] *= 2.0
    ours = as_language_model(model, tokenizer, name="tiny", opening=())
    theirs = HFLM(
        pretrained=as_gemma(model), tokenizer=gpt2_tokenizer(), batch_size=4, device="cpu"
    )
    return ours, theirs


def items(rows: Rows, read) -> tuple[Item, ...]:
    return tuple(read(Fields(row, "row"), number) for number, row in enumerate(rows))


def hellaswag_set() -> tuple[Benchmark, dict[str, Rows]]:
    from datasets import Dataset
    from lm_eval.tasks.hellaswag.utils import process_docs

    scored, examples = hellaswag_rows(12), hellaswag_rows(15, first=40)
    benchmark = Benchmark(
        "hellaswag", items(scored, hellaswag.from_hub), items(examples, hellaswag.from_hub), "rows"
    )
    prepared = {
        "validation": list(process_docs(Dataset.from_list(scored))),
        "train": list(process_docs(Dataset.from_list(examples))),
    }
    return benchmark, prepared


def triviaqa_set() -> tuple[Benchmark, dict[str, Rows]]:
    scored, examples = triviaqa_rows(12), triviaqa_rows(15, first=40)
    benchmark = Benchmark(
        "triviaqa", items(scored, triviaqa.from_hub), items(examples, triviaqa.from_hub), "rows"
    )
    return benchmark, {"validation": scored, "train": examples}


def gsm8k_set() -> tuple[Benchmark, dict[str, Rows]]:
    scored, examples = gsm8k_rows(12), gsm8k_rows(15, first=40)
    benchmark = Benchmark(
        "gsm8k", items(scored, gsm8k.from_row), items(examples, gsm8k.from_row), "rows"
    )
    return benchmark, {"test": scored, "train": examples}


def humaneval_set() -> tuple[Benchmark, dict[str, Rows]]:
    scored = humaneval_rows(12)
    own = items(scored, human_eval.from_row)
    return Benchmark("humaneval", own, own, "rows"), {"test": scored}


SETS = {
    "hellaswag": hellaswag_set,
    "triviaqa": triviaqa_set,
    "gsm8k": gsm8k_set,
    "humaneval": humaneval_set,
}


def write_for_harness(folder: Path, task: str, rows: dict[str, Rows]) -> None:
    splits = {name: write_json_lines(folder / f"{name}.jsonl", of) for name, of in rows.items()}
    changes: dict[str, Any] = {}
    if task != "hellaswag":
        changes["generation_kwargs"] = {"max_gen_toks": NEW_TOKENS}
    write_task(folder, task, splits=splits, changes=changes)


# With examples before it every item takes long; one task stands for the others.
WITH_EXAMPLES = [
    pytest.param(task, 5, marks=[] if task == "gsm8k" else [pytest.mark.slow]) for task in SETS
]


@pytest.mark.parametrize(("task", "shots"), [*((task, 0) for task in SETS), *WITH_EXAMPLES])
def test_both_agree_item_by_item(tmp_path: Path, models, task: str, shots: int) -> None:
    benchmark, rows = SETS[task]()
    write_for_harness(tmp_path, task, rows)
    options = TaskOptions(**{**vars(OPTIONS), "shots": shots})
    found = compare(*models, benchmark, options, folder=tmp_path)
    assert found.prompts == 0
    assert found.texts == 0
    assert not any(found.judged.values())
    assert found.largest < 1e-4
    assert len(found.theirs) == ITEMS
    if task != "hellaswag":
        assert len({item.written for item in found.theirs}) > ITEMS // 2
