"""A text is treated by itself: the same anywhere, dropped early and with its reason."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.data.bench_rows import write_bench_folder
from tests.data.memory import MemorySource, plan, prepare_plans, sentences, stage
from yxanul.config.treatment import TreatmentConfig
from yxanul.data.inspection.inspect import Questions, inspect_folder
from yxanul.data.prepared.manifest import load_manifest
from yxanul.data.preparing.prepare import prepare
from yxanul.data.tokenizer import load_tokenizer
from yxanul.data.treating import processes
from yxanul.data.treating.clean import clean
from yxanul.data.treating.encoders import ProvenEncoder, Tokie
from yxanul.data.treating.processes import Batch, treat_in_order
from yxanul.data.treating.treatment import Treater, Treatment
from yxanul.errors import ConfigError, InfrastructureError, UsageError


def treater(min_tokens: int | None = None, **config: object) -> Treater:
    return Treater(Treatment(TreatmentConfig.model_validate(config), min_tokens=min_tokens))


def reasons(one: Treater, *texts: str) -> list[str | None]:
    return [text.drop.rule if text.drop else None for text in one.treat(texts)]


def test_calculator_marks_are_taken_out_and_cut_off_traces_dropped() -> None:
    one = treater(remove_pattern="<<[^>]*>>")
    (text,) = one.treat(["48/2 = <<48/2=24>>24 clips\n#### 24"])
    assert load_tokenizer().decode(text.ids.tolist()) == "48/2 = 24 clips\n#### 24"
    one = treater(require_pattern=r"</think>\s*\S")
    assert reasons(one, "<think>a</think> b", "<think>a", "<think>a</think>\n") == [
        None,
        "not_whole",
        "not_whole",
    ]


def test_a_wrong_pattern_is_a_sentence() -> None:
    with pytest.raises(ValueError, match="remove_pattern is no regular expression"):
        TreatmentConfig(remove_pattern="(")


def test_repair_mends_what_was_decoded_wrongly_and_keeps_the_rest() -> None:
    (text,) = treater(repair=True).treat(["schÃ¶n &amp; “good”"])
    assert load_tokenizer().decode(text.ids.tolist()) == "schön & “good”"


def test_short_texts_are_dropped_by_bytes_or_by_tokens() -> None:
    texts = treater(min_tokens=5).treat(["abc", "abcdefghij", "one two three four five"])
    assert [t.drop and (t.drop.rule, t.drop.value, t.drop.detail) for t in texts] == [
        ("too_short", 3, "bytes"),
        ("too_short", 4, "tokens"),
        None,
    ]


@settings(max_examples=30, deadline=None)
@given(texts=st.lists(st.text(st.sampled_from("ab \n\t'<|>é日\x85\x0b"), max_size=30), max_size=6))
def test_a_batch_is_treated_as_its_texts_one_by_one(texts: list[str]) -> None:
    one = treater(near_duplicates=0.7)
    together = one.treat(texts)
    alone = [one.treat([text])[0] for text in texts]
    for a, b, text in zip(together, alone, texts, strict=True):
        assert (a.digest, a.bytes, a.drop) == (b.digest, b.bytes, b.drop)
        assert a.ids.tolist() == b.ids.tolist()
        if a.drop is None:
            assert a.ids.tolist() == load_tokenizer().encode(clean(text))


@settings(max_examples=100, deadline=None)
@given(
    text=st.text(
        st.sampled_from("aA \n\t\r\x0b\x0c\x85\xa0\u2028'sdtlvemr0½<|>éß日😀-_\u0301")
        | st.characters(),
        max_size=40,
    )
)
def test_tokie_behind_its_guards_gives_the_reference_ids(text: str) -> None:
    pytest.importorskip("tokie")
    text = text.encode("utf-8", "ignore").decode()
    texts = [text, text + "\t's", "<|endoftext|>" + text, ""]
    fast = _tokie().encode_arrays(texts)
    assert [ids.tolist() for ids in fast] == [load_tokenizer().encode(one) for one in texts]


_FAST: list[Tokie] = []


def _tokie() -> Tokie:
    if not _FAST:
        _FAST.append(Tokie(load_tokenizer()))
    return _FAST[0]


def test_tokie_that_gives_other_ids_is_not_used_and_that_is_said(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("tokie")
    encoder = ProvenEncoder()
    right = [ids.tolist() for ids in encoder.encode_arrays(["Hello world"])]
    assert (right, encoder.note) == ([[15496, 995]], None)
    encoder = ProvenEncoder()
    honest = encoder._fast._encode
    monkeypatch.setattr(encoder._fast, "_encode", lambda texts: [i + 1 for i in honest(texts)])
    for texts in ([], [""], ["page\x0cbreak"]):
        encoder.encode_arrays(texts)
        assert encoder.note is None, "what tokie would not be given says nothing of it"
    assert [ids.tolist() for ids in encoder.encode_arrays(["Hello world"])] == [[15496, 995]]
    assert encoder.note == "tokie gives other ids than tiktoken here: tiktoken is used instead"
    assert [ids.tolist() for ids in encoder.encode_arrays(["Hello"])] == [[15496]]


def batches(count: int) -> Iterator[Batch[int]]:
    for number in range(count):
        yield Batch([f"text {number} of batch", "   "], number)


def test_processes_hand_back_every_batch_in_order() -> None:
    alone = treat_in_order(batches(9), Treatment(), processes=1, say=print)
    together = treat_in_order(batches(9), Treatment(), processes=2, alone_characters=40, say=print)
    for (a, ours), (b, theirs) in zip(alone, together, strict=True):
        assert a == b
        assert [text.ids.tolist() for text in ours] == [text.ids.tolist() for text in theirs]
        assert [text.drop for text in ours] == [text.drop for text in theirs]


def test_a_process_whose_tokie_is_not_used_says_so_once(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("tokie")
    monkeypatch.setattr(processes, "_treat", _with_a_wrong_tokie)
    said: list[str] = []
    treatment = Treatment(encoder="tokie")
    seen = treat_in_order(batches(6), treatment, processes=2, alone_characters=1, say=said.append)
    right = [[text.ids.tolist() for text in texts] for _, texts in seen]
    assert right == [
        [text.ids.tolist() for text in texts]
        for _, texts in treat_in_order(batches(6), Treatment(), processes=1, say=print)
    ]
    assert said == ["tokie gives other ids than tiktoken here: tiktoken is used instead"]


def _with_a_wrong_tokie(texts: list[str]) -> object:
    assert processes._treater is not None
    encoder = processes._treater._encoder
    assert isinstance(encoder, ProvenEncoder)
    count = len(texts)
    encoder._fast._encode = lambda texts: [np.zeros(1, np.uint16)] * count  # type: ignore[method-assign]
    return processes._treat(texts)


def test_an_error_of_the_reading_comes_through_the_processes() -> None:
    def broken() -> Iterator[Batch[int]]:
        yield from batches(3)
        raise ConfigError("no more")

    seen = treat_in_order(broken(), Treatment(), processes=2, alone_characters=1, say=print)
    with pytest.raises(ConfigError, match="no more"):
        list(seen)


def test_a_process_that_is_killed_is_an_error_a_restart_may_cure(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(processes, "_treat", _die)
    seen = treat_in_order(batches(5), Treatment(), processes=2, alone_characters=1, say=print)
    core = min(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 0
    half = f"for want of memory.* fewer cores: taskset -c {core} COMMAND"
    with pytest.raises(InfrastructureError, match=half):
        list(seen)


def _die(texts: list[str]) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.fault(37)
def test_processes_that_treat_texts_hold_no_token(monkeypatch: pytest.MonkeyPatch) -> None:
    secrets = {"HF_TOKEN", "WANDB_API_KEY", "AWS_SECRET_ACCESS_KEY"}
    secrets |= {"PGPASSWORD", "MYSQL_PWD", "GITHUB_PAT", "SMTP_PASS"}
    kept = {"TOKENIZERS_PARALLELISM", "PWD", "OLDPWD"}
    for name in secrets | kept:
        monkeypatch.setenv(name, "false")
    monkeypatch.setattr(processes, "_treat", _variables)
    seen = treat_in_order(batches(3), Treatment(), processes=2, alone_characters=1, say=print)
    _, *told = [found for _, found in seen]  # the first batch is treated here
    assert len(told) == 2
    for names in told:
        assert {"PATH", *kept} <= set(names)
        assert not secrets & set(names)
    assert secrets <= set(os.environ), "whoever reads from the hub needs them"


def _variables(texts: list[str]) -> tuple[list[str], None]:
    return list(os.environ), None


ORPHANS = """
import os, time
from yxanul.data.treating.processes import Batch, treat_in_order
from yxanul.data.treating.treatment import Treatment
def batches():
    for n in range(4):
        yield Batch(["a text"], n)
    print("started", flush=True)
    time.sleep(60)
    yield Batch(["a text"], 9)
if __name__ == "__main__":
    for _ in treat_in_order(batches(), Treatment(), processes=2, alone_characters=1, say=print):
        pass
"""


def test_processes_end_when_their_parent_is_killed(tmp_path: Path) -> None:
    program = tmp_path / "orphans.py"
    program.write_text(ORPHANS)
    parent = subprocess.Popen([sys.executable, str(program)], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    assert parent.stdout.readline() == "started\n"
    listed = Path(f"/proc/{parent.pid}/task/{parent.pid}/children")
    if not listed.exists():
        parent.kill()
        pytest.skip("this system does not list the children of a process in /proc")
    children = [int(pid) for pid in listed.read_text().split()]
    parent.kill()
    parent.communicate()
    deadline = time.monotonic() + 20
    while any(_lives(pid) for pid in children) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert len(children) >= 2
    assert not [pid for pid in children if _lives(pid)]


def _lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    except OSError:
        return False


def test_items_of_benchmarks_are_dropped_whatever_their_numbers(tmp_path: Path) -> None:
    """Canaries: items of all four sets, word for word and with other numbers, in clean text."""
    bench = write_bench_folder(tmp_path / "bench", items=6)
    data = tmp_path / "data"
    data.mkdir()
    clean_texts = sentences(120)
    question = (
        "She counts the pebbles of the whole beach twice, and of the 14 thousand that she found "
        "she gives 3 hundred to her brother before the evening comes"
    )
    gsm = bench / "gsm8k" / "test.jsonl"
    with gsm.open("a") as lines:
        lines.write(json.dumps({"question": question + ".", "answer": "13700\n#### 13700"}) + "\n")
    planted = [
        f"Some words before. {question}. Some after.",
        f"Then: {question.replace('14', '25').replace('3 hundred', '7 hundred')}!",
    ]
    for number, text in enumerate([*clean_texts, *planted]):
        (data / f"{number:03d}.txt").write_text(text)
    config = stage(
        "stage1_tests",
        source=str(data),
        folder_treatment={"decontaminate": ["gsm8k", "hellaswag", "triviaqa", "humaneval"]},
    )
    config = config.model_copy(
        update={"evaluation": config.evaluation.model_copy(update={"bench": str(bench)})}
    )
    manifest = prepare([config], tmp_path / "out", progress=lambda line: None)
    record = manifest.sources["stage1_tests"]
    assert record.dropped == {"contaminated_gsm8k": 2}
    assert set(record.decontaminated) == {"gsm8k", "hellaswag", "triviaqa", "humaneval"}
    told = inspect_folder(tmp_path / "out", Questions(dropped=True)).dropped[0].rules[0]
    assert [sample.id for sample in told.samples] == [
        "stage1_tests/120.txt",
        "stage1_tests/121.txt",
    ]
    assert "she counts the pebbles" in told.samples[0].why
    assert "digits masked" in told.samples[1].why


def test_other_items_than_the_data_was_cleared_of_are_not_passed_over(tmp_path: Path) -> None:
    texts, out, said = tmp_path / "texts", tmp_path / "out", list[str]()
    texts.mkdir()
    for number, text in enumerate(sentences(120)):
        (texts / f"{number:03d}.txt").write_text(text)

    def prepare_with(bench: Path, *, is_in_use: bool = False) -> None:
        config = stage(
            "s", source=str(texts), folder_treatment={"decontaminate": ["gsm8k", "humaneval"]}
        )
        evaluation = config.evaluation.model_copy(update={"bench": str(bench)})
        config = config.model_copy(update={"evaluation": evaluation})
        prepare([config], out, progress=said.append, is_in_use=is_in_use)

    old = write_bench_folder(tmp_path / "old")
    prepare_with(old)
    # The same items at another place are the same.
    new = write_bench_folder(tmp_path / "new")
    prepare_with(new)
    with (new / "gsm8k" / "test.jsonl").open("a") as lines:
        lines.write(json.dumps({"question": "How many?", "answer": "7\n#### 7"}) + "\n")
    with pytest.raises(UsageError, match=r"cleared of other items of gsm8k \(.*new has \("):
        prepare_with(new)
    prepare_with(new, is_in_use=True)
    assert "other items of gsm8k" in said[-2]
    prepare_with(old)
    # Items that are gone change nothing, and that is said.
    prepare_with(tmp_path / "gone")
    assert [line.split(":")[0] for line in said[-3:-1]] == [
        "what s was cleared of is not compared"
    ] * 2


def test_what_a_source_was_treated_with_stands_in_the_manifest(tmp_path: Path) -> None:
    pytest.importorskip("datatrove")
    source = MemorySource("s", sentences(300))
    config = {"gopher_quality": {"min_doc_words": 8}, "near_duplicates": 0.9}
    prepare_plans(tmp_path, plans=[plan(source, **config)])
    record = load_manifest(tmp_path).sources["s"]
    assert set(record.tools) == {"datatrove", "spacy"}
    assert record.dropped["gopher_short_doc"] > 0
    kept = record.train.documents + record.validation.documents
    assert kept + sum(record.dropped.values()) == 300
