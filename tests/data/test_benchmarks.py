"""Benchmarks are read from a folder whole and as the harness reads the hub's rows, or not at all;
what is wrong is said with file and line."""

import bz2
import json
import re
from pathlib import Path
from typing import Any

import pytest

from benchmarks.harness import task_definition
from tests.data.bench_rows import (
    gsm8k_rows,
    hellaswag_rows,
    humaneval_rows,
    triviaqa_lines,
    triviaqa_rows,
    write_bench_folder,
    write_lines,
)
from yxanul.data.benchmarks import gsm8k, hellaswag, human_eval, triviaqa
from yxanul.data.benchmarks.fields import Fields
from yxanul.data.benchmarks.read import read_benchmark
from yxanul.data.benchmarks.sets import SETS
from yxanul.data.items import Benchmark
from yxanul.errors import CorruptDataError, UsageError

TASKS = tuple(SETS)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_bench_folder(tmp_path / "bench")


def read(folder: Path, task: str, *, with_shots: bool = False) -> Benchmark:
    return read_benchmark(task, bench=str(folder), with_shots=with_shots, news=print)


def test_hellaswag_is_prepared_as_the_harness_prepares_it() -> None:
    from datasets import Dataset
    from lm_eval.tasks.hellaswag.utils import process_docs

    rows = hellaswag_rows(12)
    for row, theirs in zip(rows, process_docs(Dataset.from_list(rows)), strict=True):
        ours = hellaswag.from_hub(Fields(row, "row"), 0)
        assert ours.prompt == theirs["query"]
        assert list(ours.choices) == theirs["choices"]
        assert ours.answer == theirs["gold"]
    assert "[" not in ours.prompt + "".join(ours.choices)


def rendered(task: str, row: dict[str, Any], key: str = "doc_to_text") -> str:
    """What the harness' own template makes of a row."""
    from lm_eval.utils import apply_template

    return apply_template(task_definition(task)[key], row)


def test_triviaqa_reads_as_the_harness_template() -> None:
    for row in triviaqa_rows(6):
        ours = triviaqa.from_hub(Fields(row, "row"), 0)
        assert ours.prompt == rendered("triviaqa", row)
        target = rendered("triviaqa", row, "doc_to_target")
        assert str(list(ours.aliases)) == target
        assert ours.answer == row["answer"]["value"]


def test_gsm8k_reads_as_the_harness_template() -> None:
    for row in gsm8k_rows(6):
        ours = gsm8k.from_row(Fields(row, "row"), 0)
        assert ours.prompt == rendered("gsm8k", row)
        assert ours.answer == rendered("gsm8k", row, "doc_to_target")


def test_humaneval_reads_as_the_harness_template() -> None:
    for row in humaneval_rows(6):
        ours = human_eval.from_row(Fields(row, "row"), 0)
        assert ours.prompt == rendered("humaneval", row)
        tests = f"{ours.test}\ncheck({ours.entry_point})"
        assert tests == rendered("humaneval", row, "doc_to_target")


@pytest.mark.parametrize("task", TASKS)
def test_a_folder_gives_every_item_and_says_from_which_file(folder: Path, task: str) -> None:
    found = read(folder, task)
    assert len(found.items) == 12
    assert len({item.id for item in found.items}) == 12
    assert found.shots == ()
    name = Path(SETS[task].file).name
    assert re.fullmatch(rf"{re.escape(name)}, sha256 [0-9a-f]{{16}}", found.origin)


def test_worked_examples_come_from_the_training_file_or_the_items_themselves(folder: Path) -> None:
    assert read(folder, "hellaswag", with_shots=True).shots == read(folder, "hellaswag").items
    problems = read(folder, "gsm8k", with_shots=True)
    assert len(problems.shots) == 12
    assert not {one.prompt for one in problems.shots} & {one.prompt for one in problems.items}


def test_hellaswag_items_are_six_lines_each(folder: Path) -> None:
    item = read(folder, "hellaswag").items[1]
    assert item.prompt == "Mending: The girl holds 1 parts of a ladder. he"
    assert item.choices[item.answer] == "turns the lantern over twice twice twice."


@pytest.mark.parametrize("task", TASKS)
def test_a_missing_file_is_named_with_the_layout(folder: Path, task: str) -> None:
    (folder / SETS[task].file).unlink()
    with pytest.raises(UsageError, match="is missing: --bench_dir takes a folder") as caught:
        read(folder, task)
    assert str(folder / SETS[task].file) in str(caught.value)
    with pytest.raises(UsageError, match="there is no such folder"):
        read(folder / "nowhere", task)


@pytest.mark.parametrize("task", TASKS)
def test_an_empty_set_is_refused(folder: Path, task: str) -> None:
    path = folder / SETS[task].file
    path.write_bytes(bz2.compress(b"")) if path.suffix == ".bz2" else write_lines(path, [])
    with pytest.raises(CorruptDataError, match="holds no item"):
        read(folder, task)


@pytest.mark.parametrize("task", ["hellaswag", "humaneval"])
@pytest.mark.parametrize("damage", ["cut", "other", "flip"])
def test_a_damaged_archive_is_refused(folder: Path, task: str, damage: str) -> None:
    path = folder / SETS[task].file
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    damaged = {
        "cut": path.read_bytes()[: len(content) // 2],
        "other": b"not an archive",
        "flip": bytes(content),
    }
    path.write_bytes(damaged[damage])
    with pytest.raises(CorruptDataError, match="bring the original") as caught:
        read(folder, task)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("task", "rows", "change", "said"),
    [
        ("triviaqa", triviaqa_lines, {"aliases": None}, "line 3 has no list of texts in aliases"),
        ("triviaqa", triviaqa_lines, {"aliases": ["a", 1]}, "line 3 has no text in aliases[1]"),
        ("triviaqa", triviaqa_lines, {"aliases": []}, "line 3 has no list of texts in aliases"),
        ("triviaqa", triviaqa_lines, {"context": "\ud800"}, "half a character in context"),
        ("triviaqa", triviaqa_lines, {"answer": " "}, "line 3 has a blank answer"),
        ("gsm8k", gsm8k_rows, {"question": 7}, "line 3 has no text in question"),
        ("gsm8k", gsm8k_rows, {"answer": "It is 7."}, "does not end in #### and a number"),
        ("humaneval", humaneval_rows, {"entry_point": ""}, "line 3 has a blank entry_point"),
        ("humaneval", humaneval_rows, {"task_id": "HumanEval/0"}, "item 3 has the name HumanEval"),
    ],
)
def test_a_wrong_field_is_named_with_its_line(folder: Path, task, rows, change, said) -> None:
    path = folder / SETS[task].file
    found = rows(5)
    found[2] |= change
    write_lines(path, found)
    with pytest.raises(CorruptDataError) as caught:
        read(folder, task)
    assert said in str(caught.value)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("task", "key"), [("triviaqa", "context"), ("gsm8k", "answer"), ("humaneval", "test")]
)
def test_a_missing_field_is_named_with_those_that_are_there(folder: Path, task, key) -> None:
    path = folder / SETS[task].file
    rows = {"triviaqa": triviaqa_lines, "gsm8k": gsm8k_rows, "humaneval": humaneval_rows}[task](3)
    held = ", ".join(name for name in rows[1] if name != key)
    del rows[1][key]
    write_lines(path, rows)
    with pytest.raises(CorruptDataError) as caught:
        read(folder, task)
    assert f"{path}, line 2 has no field {key}, only {held}" in str(caught.value)


@pytest.mark.parametrize(
    ("line", "said"),
    [(b"{", "is not valid JSON"), (b"\xff", "is not UTF-8"), (b"[1]", "is not an object")],
)
def test_a_line_that_is_no_row_is_named(folder: Path, line: bytes, said: str) -> None:
    path = folder / "gsm8k/test.jsonl"
    path.write_bytes(json.dumps(gsm8k_rows(1)[0]).encode() + b"\n" + line + b"\n")
    with pytest.raises(CorruptDataError, match=f"line 2 {said}"):
        read(folder, "gsm8k")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({1: b"4"}, "line 2 has the label '4', not 0 to 3"),
        ({7: b"right"}, "line 8 has the label 'right'"),
        ({3: b""}, "line 4 has a blank text"),
        ({6: b"\xff"}, "line 7 is not UTF-8"),
        ({71: None}, "line 67 begins an item of 5 lines, not 6"),
    ],
)
def test_a_wrong_line_of_hellaswag_is_named(folder: Path, change, said: str) -> None:
    path = folder / "hellaswag/hellaswag_val_full.txt.bz2"
    lines: list[bytes | None] = list(bz2.decompress(path.read_bytes()).splitlines())
    for number, line in change.items():
        lines[number] = line
    path.write_bytes(bz2.compress(b"".join(b"%b\n" % one for one in lines if one is not None)))
    with pytest.raises(CorruptDataError) as caught:
        read(folder, "hellaswag")
    assert said in str(caught.value)


@pytest.mark.parametrize("label", ["", "4", "one"])
def test_a_wrong_label_of_the_hub_is_refused(label: str) -> None:
    row = hellaswag_rows(1)[0] | {"label": label}
    with pytest.raises(CorruptDataError, match=r"row 1 has the label .* not 0 to 3"):
        hellaswag.from_hub(Fields(row, "row 1"), 0)
