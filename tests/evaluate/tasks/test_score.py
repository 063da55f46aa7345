"""A task's score holds every item that was asked for, says of what it is, and has no number that
nobody reached."""

import errno
import math
import os
import platform
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.data.bench_rows import humaneval_rows, write_bench_folder
from tests.evaluate.uniform import UniformBytes
from yxanul.curriculum.conditions import conditions
from yxanul.data.benchmarks.read import read_benchmark
from yxanul.data.items import AnswerItem, Benchmark, ChoiceItem
from yxanul.errors import NumericsError, UsageError
from yxanul.evaluate.sandbox import level
from yxanul.evaluate.sandbox.level import sandbox_level
from yxanul.evaluate.summary import figures, headline
from yxanul.evaluate.tasks import measuring
from yxanul.evaluate.tasks.options import TaskOptions
from yxanul.evaluate.tasks.score import ask, score_task
from yxanul.runfolder.skill_scores import read_task_score, write_task_score

SHORT = TaskOptions(max_new_tokens=4, batch=4)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bench_folder(tmp_path_factory.mktemp("bench") / "sets")


def read(folder: Path, task: str) -> Benchmark:
    return read_benchmark(task, bench=str(folder), with_shots=True, news=print)


def test_a_model_that_knows_nothing_pays_the_same_for_each_byte_of_the_answer(folder) -> None:
    for task in ("hellaswag", "triviaqa", "gsm8k"):
        score = score_task(UniformBytes(), read(folder, task), options=replace(SHORT, shots=0))
        assert score.gold_bpb() == pytest.approx(math.log2(257))
        assert len(score.ids) == 12


def test_the_bytes_of_the_answer_are_those_that_were_paid_for() -> None:
    items = (
        AnswerItem("space", "Question: ä\nAnswer:", "Ö l"),
        AnswerItem("line", "Reasoning:\n", "1 + 1 = 2\n\nAnswer: 2", ("2",)),
    )
    benchmark = Benchmark("gsm_symbolic", items, (), "made up")
    score = score_task(UniformBytes(), benchmark, options=SHORT)
    # A space before the one; the prompt's last line break before the other, which is scored too.
    assert score.measures["gold_bytes"] == [len(" Ö l".encode()), len("\n1 + 1 = 2\n\nAnswer: 2")]
    per_byte = np.array(score.measures["gold_nats"]) / np.array(score.measures["gold_bytes"])
    assert per_byte == pytest.approx(math.log(257))


def test_an_ending_is_chosen_as_it_stands_and_per_character() -> None:
    item = ChoiceItem("one", "Once", ("aa", "bbbb", "c"), answer=2)
    score = score_task(UniformBytes(), Benchmark("cloze", (item,), (), "made up"), options=SHORT)
    # One byte fewer is likelier; per character the space before it weighs most on the shortest.
    assert score.measures["acc"] == [1.0]
    assert score.measures["acc_norm"] == [0.0]


def test_the_limit_takes_the_first_items_with_the_same_prompts(folder) -> None:
    benchmark = read(folder, "triviaqa")
    few = ask(benchmark, TaskOptions(limit=4, shots=3))
    every = ask(benchmark, TaskOptions(shots=3))
    assert few.prompts == every.prompts[:4]
    assert few.items == every.items[:4]


def test_an_item_is_never_its_own_example_where_examples_are_the_items(folder) -> None:
    benchmark = read(folder, "humaneval")
    asked = ask(benchmark, TaskOptions(shots=11))
    for item, prompt in zip(asked.items, asked.prompts, strict=True):
        assert item.solution not in prompt
        assert sum(other.solution in prompt for other in asked.items) == 11
        assert prompt.endswith(item.prompt)


def test_copies_of_an_item_are_no_examples_of_it_either(folder) -> None:
    found = read(folder, "triviaqa").items[:4]
    copies = tuple(replace(found[0], id=f"copy {n}") for n in range(20))
    benchmark = Benchmark("triviaqa", found + copies, found + copies, "made up")
    for prompt in ask(benchmark, TaskOptions(limit=1, shots=2)).prompts:
        assert prompt.count(found[0].prompt) == 1


def test_too_few_examples_are_refused(folder) -> None:
    benchmark = read(folder, "hellaswag")
    assert ask(benchmark, TaskOptions(shots=11))
    with pytest.raises(UsageError, match="hellaswag has 12 worked examples, too few for 12"):
        ask(benchmark, TaskOptions(shots=12))
    with pytest.raises(UsageError, match="has 0 worked examples"):
        ask(replace(benchmark, shots=()), TaskOptions(shots=1))
    with pytest.raises(UsageError, match="has no items to score"):
        ask(replace(benchmark, items=()), TaskOptions())


def test_answers_that_gate_nothing_are_left_out_on_request(folder) -> None:
    options = replace(SHORT, shots=0, answers=False)
    score = score_task(UniformBytes(), read(folder, "gsm8k"), options=options)
    assert set(score.measures) == {"gold_nats", "gold_bytes"}
    assert set(score.not_run) == {"exact_match", "exact_match_flexible"}
    assert (score.texts, score.max_new_tokens) == (None, None)
    assert headline(score) == "gold_bpb"
    gating = score_task(UniformBytes(), read(folder, "triviaqa"), options=options)
    assert gating.measures["exact_match"] == [0.0] * 12
    assert gating.texts is not None


def test_a_prompt_that_only_its_longest_ending_pushes_out_is_counted_as_cut() -> None:
    """Of 512 positions the prompts take 481 and 482, an ending of 31 bytes with its space all."""
    items = tuple(
        ChoiceItem(str(size), "k" * size, ("a" * 5, "b" * 31), answer=0) for size in (481, 482)
    )
    benchmark = Benchmark("cloze", items, (), "made up")
    assert score_task(UniformBytes(), benchmark, options=SHORT).cut_prompts == 1


def test_a_likelihood_that_is_not_finite_names_its_item(folder) -> None:
    benchmark = read(folder, "gsm8k")
    items = list(benchmark.items)
    items[7] = replace(items[7], answer=items[7].answer.replace("thousand", "~"))
    poisoned = replace(benchmark, items=tuple(items))
    with pytest.raises(NumericsError, match="gsm8k: the model's likelihood of item 7 is not"):
        score_task(UniformBytes(poison="~"), poisoned, options=replace(SHORT, shots=0))


def test_a_score_is_written_and_read_back_with_its_origin(folder, tmp_path) -> None:
    benchmark = read(folder, "triviaqa")
    score = score_task(UniformBytes(), benchmark, options=replace(SHORT, limit=3, shots=2))
    write_task_score(tmp_path / "one.json", score)
    assert read_task_score(tmp_path / "one.json") == score
    assert (score.version, score.shots, score.origin) == ("3.0", 2, benchmark.origin)
    assert score.ids == ["0", "1", "2"]
    assert score.max_new_tokens == 4
    other = score_task(UniformBytes(), benchmark, options=replace(SHORT, limit=3, shots=1))
    assert other.items_sha256 == score.items_sha256
    assert other.prompts_sha256 != score.prompts_sha256


def test_the_standard_error_is_the_harness_own(folder) -> None:
    from lm_eval.api.metrics import mean_stderr

    score = score_task(UniformBytes(), read(folder, "hellaswag"), options=replace(SHORT, shots=0))
    found = figures(score)["acc"]
    assert 0 < found.value < 1
    assert found.stderr == pytest.approx(mean_stderr(score.measures["acc"]))


def test_programs_pass_in_the_sandbox_or_not(tmp_path) -> None:
    # The model writes four #, so that only a program that is whole already passes.
    rows = humaneval_rows(3)
    for row in rows[1:]:
        row["prompt"] += row["canonical_solution"]
    rows[2]["prompt"] = f"import numpy\n{rows[2]['prompt']}"
    folder = write_bench_folder(tmp_path / "sets", programs=rows)
    score = score_task(UniformBytes(likeliest="#"), read(folder, "humaneval"), options=SHORT)
    assert score.texts == ["####"] * 3
    assert score.measures["pass_at_1"] == [0.0, 1.0, 0.0]
    assert score.sandbox in ("L2", "L3")
    assert score.lacked_module == 1
    (told,) = [clause for clause in conditions(score) if "module" in clause]
    assert told.startswith("1 of 3 programs failed for want of a module")


def test_a_sandbox_that_cannot_be_set_up_costs_the_passes_and_not_the_score(folder, monkeypatch):
    assert sandbox_level().runs_programs
    monkeypatch.setattr(sys, "_base_executable", str(folder / "no-python"))
    score = score_task(UniformBytes(), read(folder, "humaneval"), options=SHORT)
    assert sorted(score.measures) == ["gold_bytes", "gold_nats"]
    assert score.not_run["pass_at_1"].startswith("no process could be started for a program")
    assert len(score.texts) == len(score.ids)
    assert score.sandbox is None


def test_a_full_disk_that_keeps_the_sandbox_from_being_tried_out_costs_the_passes_alone(
    folder, monkeypatch
):
    """The level is found once in a process: that it is not known yet has to be planted."""

    def full():
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(measuring, "sandbox_level", full)
    score = score_task(UniformBytes(), read(folder, "humaneval"), options=SHORT)
    assert sorted(score.measures) == ["gold_bytes", "gold_nats"]
    assert "No space left on device" in score.not_run["pass_at_1"]
    assert (score.texts, score.sandbox) == (None, None)


def test_whoever_watches_hears_of_the_programs_too(folder) -> None:
    class Heard:
        begun: list[str]

        def __init__(self):
            self.begun, self.done = [], {}

        def begin(self, what, *, total):
            self.begun.append(what)
            self.done[what] = -total

        def advance(self, count):
            self.done[self.begun[-1]] += count

    heard = Heard()
    score_task(UniformBytes(), read(folder, "humaneval"), options=SHORT, watcher=heard)
    words = ("likelihoods", "written answers", "programs")
    assert heard.done == {f"humaneval: {word}": 0 for word in words}


def test_without_a_sandbox_nothing_is_written_and_nothing_is_zero(folder, monkeypatch) -> None:
    monkeypatch.setattr(level, "_found", [])  # where a process keeps what it found
    monkeypatch.setattr(platform, "machine", lambda: "s390x")
    score = score_task(UniformBytes(), read(folder, "humaneval"), options=TaskOptions())
    assert sorted(score.measures) == ["gold_bytes", "gold_nats"]
    assert list(score.not_run) == ["pass_at_1"]
    assert "s390x" in score.not_run["pass_at_1"]
    assert (score.texts, score.sandbox) == (None, None)
