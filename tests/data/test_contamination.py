"""Items planted in training text are found, others are not, and nothing is looked at twice."""

import json
import os
import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.data.memory import MemorySource, plan, prepare_plans
from yxanul.data.contamination import scan as scan_module
from yxanul.data.contamination import stretch
from yxanul.data.contamination.grams import GRAM, GramIndex
from yxanul.data.contamination.judge import COVERAGE, Judge
from yxanul.data.contamination.scan import scan, scan_once
from yxanul.data.contamination.wanted import wanted_items
from yxanul.data.contamination.words import END, NUMBER, UNKNOWN, Vocabulary, split_words
from yxanul.data.items import AnswerItem, Benchmark, ChoiceItem, Item, ProgramItem
from yxanul.data.prepared.manifest import Manifest
from yxanul.data.preparing.split import is_validation
from yxanul.errors import CorruptDataError, StoppedOnRequest
from yxanul.runfolder.contamination import (
    Contamination,
    Finding,
    read_contamination,
    write_contamination,
)

QUESTION = (
    "A gardener plants four rows of tulips along the southern wall and waters each of them twice "
    "before the children come home from school."
)
ANSWER = "By then the soil is dark, and 8 cans of water have been emptied."


def chance(seed: int) -> random.Random:
    return random.Random(seed)


COMMON = [
    "the",
    "of",
    "and",
    "to",
    "in",
    "is",
    "that",
    "for",
    "it",
    "was",
    "on",
    "are",
    "with",
    "as",
]


def prose(words: int, *, seed: int) -> str:
    """Return text of common words, without structure."""
    drawn = chance(seed).choices([*COMMON, *(f"word{chr(97 + i)}" for i in range(26))], k=words)
    return " ".join(drawn)


def benchmark(*items: Item, task: str = "triviaqa") -> Benchmark:
    return Benchmark(task, items, shots=(), origin="written for this test")


def answer_item(id: str = "one", question: str = QUESTION, answer: str = ANSWER) -> AnswerItem:
    return AnswerItem(id, question, answer)


TRAINED, HELD_OUT = (
    next(key for key in "abcdefgh" if is_validation("", split_key=key, fraction=0.2) is held_out)
    for held_out in (False, True)
)


def train_on(
    root: Path, *, stage: str = "stage1_tests", shard_tokens: int = 10**6, **sources: Sequence[str]
) -> None:
    """Prepare `name=texts`, all of them as training text; one more document is held out."""
    plans = [
        plan(
            MemorySource(
                name, [*texts, f"held out of {name}"], [*[TRAINED] * len(texts), HELD_OUT]
            ),
            stage=stage,
        )
        for name, texts in sources.items()
    ]
    prepare_plans(root, plans=plans, shard_tokens=shard_tokens)


def dirty(root: Path, texts: Sequence[str], *benchmarks: Benchmark) -> dict[str, list[str]]:
    """Return the dirty items of a training text."""
    train_on(root, s=texts)
    return scan(root, benchmarks).dirty


def around(planted: str, *, seed: int = 0) -> str:
    return f"{prose(60, seed=seed)}. {planted} {prose(60, seed=seed + 1)}"


# Words


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Don't STOP, it’s well-known!", "dont stop its well known"),
        ("ﬁne Ｆｕｌｌ width…", "fine full width"),
        ("snake_case(x1, y)", "snake case x 1 y"),
        ("It costs $1,234.50 on 3.11.2024.", "it costs 1,234.50 on 3.11.2024"),
        ("École, Straße, 東京", "école straße 東京"),
        ("", ""),
    ],
)
def test_words_are_lower_case_without_punctuation(text: str, words: str) -> None:
    assert split_words(text) == words.split()


def test_a_vocabulary_knows_its_own_words_and_all_numbers() -> None:
    vocabulary = Vocabulary([["cat", "1,000"], ["cat"]])
    cat, thousand, same, other, unknown, end = vocabulary.ids(
        ["cat", "1,000", "1000", "17", "dog", "\x1e"]
    )
    assert (other, unknown, end) == (NUMBER, UNKNOWN, END)
    assert thousand == same
    assert cat != thousand
    assert vocabulary.masks[thousand] == vocabulary.masks[other] == NUMBER
    assert vocabulary.masks[cat] == cat


# Runs of eight words: the index agrees with plain comparison


@settings(max_examples=60, deadline=None)
@given(
    items=st.lists(st.lists(st.integers(3, 6), max_size=20), max_size=4),
    text=st.lists(st.integers(0, 6), max_size=60),
    masked=st.booleans(),
)
def test_the_index_finds_exactly_the_runs_that_are_there(
    items: list[list[int]], text: list[int], masked: bool
) -> None:
    masks = np.array([0, 1, 2, 3, 4, NUMBER, NUMBER], dtype=np.int32)
    index = GramIndex([np.array(item, dtype=np.int32) for item in items], masks, masked=masked)
    found = index.find(np.array(text, dtype=np.int32))

    def seen(words: list[int]) -> list[int]:
        return [int(masks[word]) for word in words] if masked else words

    expected = {
        (position, number, offset)
        for number, item in enumerate(items)
        for offset in range(len(item) - GRAM + 1)
        if sum(masks[word] == NUMBER for word in item[offset : offset + GRAM]) <= GRAM // 2
        for position in range(len(text) - GRAM + 1)
        if seen(item)[offset : offset + GRAM] == seen(text)[position : position + GRAM]
    }
    triples = zip(found.position.tolist(), found.item.tolist(), found.offset.tolist(), strict=True)
    assert sorted(triples) == sorted(expected)


# The canary


def test_a_planted_item_is_found_and_described(tmp_path: Path) -> None:
    planted = around(f"{QUESTION} {ANSWER}")
    texts = [prose(80, seed=9), planted, prose(50, seed=10), f"{planted} again"]
    train_on(tmp_path, shard_tokens=150, s=texts)
    (found,) = scan(tmp_path, [benchmark(answer_item())]).findings
    assert found == Finding(
        task="triviaqa",
        item="one",
        source="s",
        rule="row",
        masked=False,
        coverage=1.0,
        documents=2,
        shard=found.shard,
        document=1,
        document_id="s-1",
        span=" ".join(split_words(f"{QUESTION} {ANSWER}")),
    )
    assert found.shard in {"s/train-00000.bin", "s/train-00001.bin"}


def test_case_and_punctuation_do_not_hide_an_item(tmp_path: Path) -> None:
    changed = f"{QUESTION} {ANSWER}".upper().replace(" ", " -- ").replace(".", "!?\n")
    assert dirty(tmp_path, [around(changed)], benchmark(answer_item())) == {"triviaqa": ["one"]}


def test_thirteen_words_in_a_row_are_enough_and_twelve_are_not(tmp_path: Path) -> None:
    words = f"{QUESTION} {ANSWER}".split()
    held = benchmark(answer_item())
    assert dirty(tmp_path / "a", [around(" ".join(words[5:17]))], held) == {"triviaqa": []}
    assert dirty(tmp_path / "b", [around(" ".join(words[5:18]))], held) == {"triviaqa": ["one"]}


def shuffled_parts(parts: int) -> tuple[str, float]:
    """Return parts of the item, 12 words each so that none proves anything, and their coverage."""
    words = split_words(f"{QUESTION} {ANSWER}")
    kept = [" ".join(words[i * 5 : i * 5 + 12]) for i in range(parts)]
    return " xylophone ".join(reversed(kept)), 5 * parts / (len(words) - GRAM + 1)


@pytest.mark.parametrize("parts", range(1, 6))
def test_seven_tenths_of_the_runs_of_eight_make_an_item_dirty(parts: int) -> None:
    text, coverage = shuffled_parts(parts)
    assert 0.1 < coverage < 0.9
    found = [(verdict.rule, verdict.coverage) for verdict in scan_text(text)]
    assert found == ([("coverage", coverage)] if coverage >= COVERAGE else [])


def scan_text(text: str, *items: Item) -> list:
    judge = Judge(wanted_items([benchmark(*(items or [answer_item()]))]))
    return judge.judge(judge.vocabulary.ids(split_words(text)))


def test_coverage_counts_within_one_document_only() -> None:
    text, coverage = shuffled_parts(5)
    assert coverage >= COVERAGE
    assert scan_text(text.replace("xylophone", "\x1e")) == []


def test_a_row_does_not_go_on_into_the_next_document() -> None:
    words = f"{QUESTION} {ANSWER}".split()
    assert scan_text(f"{' '.join(words[5:11])} \x1e {' '.join(words[11:18])}") == []


def test_clean_text_is_not_flagged(tmp_path: Path) -> None:
    items = [
        answer_item(str(n), prose(30, seed=1000 + n), prose(8, seed=5000 + n)) for n in range(300)
    ]
    texts = [prose(2000, seed=n) for n in range(60)]
    assert dirty(tmp_path, texts, benchmark(*items)) == {"triviaqa": []}


def test_endings_that_are_wrong_prove_nothing(tmp_path: Path) -> None:
    item = ChoiceItem("c", "The gardener waters the tulips", (QUESTION, "and goes home"), 1)
    assert dirty(tmp_path, [around(QUESTION)], benchmark(item)) == {"triviaqa": []}


def test_a_program_is_its_head_and_its_body(tmp_path: Path) -> None:
    item = ProgramItem(
        "p",
        prompt='def area(width, height):\n    """Return the area of a rectangle."""\n',
        solution="    product = width * height\n    return product\n",
        test="assert area(2, 3) == 6 and this part of the program is never looked for in any text",
        entry_point="area",
    )
    copied = item.prompt.replace("    ", "\t") + item.solution
    held = benchmark(item, task="humaneval")
    assert dirty(tmp_path / "a", [around(copied)], held) == {"humaneval": ["p"]}
    assert dirty(tmp_path / "b", [around(item.test)], held) == {"humaneval": []}


# Short items


SHORT = answer_item("short", "Which river flows through the old town of Saltmere?", "Brendle")


def test_a_short_question_alone_is_no_evidence(tmp_path: Path) -> None:
    held = benchmark(SHORT)
    assert dirty(tmp_path / "a", [around(SHORT.prompt)], held) == {"triviaqa": []}
    asked = around(f"Q: {SHORT.prompt} A: the {SHORT.answer}.")
    assert dirty(tmp_path / "b", [asked], held) == {"triviaqa": ["short"]}
    late = around(f"{SHORT.prompt} {prose(12, seed=3)} {SHORT.answer}.")
    assert dirty(tmp_path / "c", [late], held) == {"triviaqa": []}


def test_a_label_between_question_and_answer_hides_no_item() -> None:
    """Nine words and five: 14 in a row that "Answer:" cuts into pieces that prove nothing."""
    item = answer_item(
        "cut", "Which river flows through the old Saltmere town?", "the slow Brendle of Upper Marsh"
    )
    assert [v.rule for v in scan_text(f"{item.prompt} {item.answer}", item)] == ["row"]
    labelled = f"Question: {item.prompt}\nAnswer: {item.answer}"
    assert [v.rule for v in scan_text(labelled, item)] == ["answered"]
    assert scan_text(f"Question: {item.prompt}\nAnswer: nobody knows", item) == []


def test_the_answer_of_the_next_document_is_none() -> None:
    """Which one that is depends on where a batch ends."""
    assert scan_text(f"{SHORT.prompt} \x1e {SHORT.answer}", SHORT) == []
    (found,) = scan_text(f"{SHORT.prompt} {SHORT.answer} \x1e {SHORT.answer}", SHORT)
    assert (found.rule, found.document) == ("answered", 0)


def test_labels_of_a_prompt_are_no_part_of_the_question() -> None:
    labelled = replace(SHORT, prompt=f"Question: {SHORT.prompt}\nAnswer:")
    assert [v.rule for v in scan_text(f"{SHORT.prompt} {SHORT.answer}", labelled)] == ["answered"]


def test_items_of_a_few_words_are_counted_as_undecided(tmp_path: Path) -> None:
    tiny = answer_item("tiny", "Capital of France?", "Paris")
    train_on(tmp_path, s=[around(f"{tiny.prompt} {tiny.answer}")])
    found = scan(tmp_path, [benchmark(tiny, SHORT)])
    assert found.findings == ()
    assert found.benchmarks["triviaqa"].items == 2
    assert found.benchmarks["triviaqa"].too_short == 1


# Numbers


PROBLEM = answer_item(
    "problem",
    "Mia has 12 apples and buys 7 more at the market, then gives 5 of them away to her brother.",
    "She has 12 + 7 = 19 apples. She gives 5 away, so 14 are left.",
)


def test_other_numbers_do_not_hide_a_problem(tmp_path: Path) -> None:
    varied = around(PROBLEM.prompt.replace("12", "1,310").replace("7", "44").replace("5", "0.5"))
    maths = benchmark(PROBLEM, task="gsm8k")
    assert dirty(tmp_path / "a", [varied], maths) == {"gsm8k": ["problem"]}
    (found,) = scan(tmp_path / "a", [maths]).findings
    assert found.masked
    # Elsewhere a number is a fact.
    assert dirty(tmp_path / "b", [varied], benchmark(PROBLEM)) == {"triviaqa": []}


def test_rows_of_numbers_are_no_evidence(tmp_path: Path) -> None:
    counting = " ".join(str(n) for n in range(40))
    item = answer_item("count", f"Count: {counting}", counting)
    for task in ("gsm8k", "triviaqa"):
        held = benchmark(item, task=task)
        assert dirty(tmp_path / task, [around(counting)], held) == {task: []}


# Streams and shards


def test_copies_across_the_borders_of_blocks_and_shards_are_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stretch, "BLOCK_TOKENS", 200)
    monkeypatch.setattr(stretch, "OVERLAP_TOKENS", 80)
    monkeypatch.setattr(scan_module, "STRETCH_TOKENS", 500)
    # Thirteen words each, so that half a copy proves nothing, wherever a border cuts.
    items = [answer_item(str(n), prose(8, seed=n), prose(5, seed=100 + n)) for n in range(60)]
    text = " xylophone ".join(f"{item.prompt} {item.answer}" for item in items)
    train_on(tmp_path, shard_tokens=230, s=[text])
    found = scan(tmp_path, [benchmark(*items)], processes=1)
    assert {finding.item for finding in found.findings} == {item.id for item in items}
    assert {(finding.documents, finding.document) for finding in found.findings} == {(1, 0)}


def test_the_held_out_side_is_not_looked_at(tmp_path: Path) -> None:
    texts = [f"{around(QUESTION, seed=n)}" for n in range(30)]
    manifest = prepare_plans(tmp_path, plans=[plan(MemorySource("s", texts), fraction=0.5)])
    (found,) = scan(tmp_path, [benchmark(answer_item())]).findings
    assert found.documents == manifest.sources["s"].train.documents < 30


def test_findings_are_kept_by_source_and_stage(tmp_path: Path) -> None:
    train_on(tmp_path, stage="stage1", first=[prose(50, seed=1), around(QUESTION, seed=5)])
    train_on(tmp_path, stage="stage2", second=[around(QUESTION), prose(50, seed=2)])
    other = answer_item("other", prose(30, seed=77), "no")
    found = scan(tmp_path, [benchmark(answer_item(), other)])
    assert [(f.source, f.item) for f in found.findings] == [("first", "one"), ("second", "one")]
    assert found.dirty_in(["first"]) == {"triviaqa": ["one"]}
    assert found.dirty_in([]) == {"triviaqa": []}
    assert list(scan(tmp_path, [benchmark(other)], stages=["stage2"]).sources) == ["second"]


def test_several_processes_find_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scan_module, "STRETCH_TOKENS", 400)
    texts = [around(QUESTION if n % 3 else "nothing", seed=n) for n in range(20)]
    train_on(tmp_path, s=texts)
    held = [benchmark(answer_item())]
    assert scan(tmp_path, held, processes=2) == scan(tmp_path, held, processes=1)


def test_who_listens_can_stop_the_scan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scan_module, "STRETCH_TOKENS", 400)
    monkeypatch.setattr(scan_module, "SECONDS_BETWEEN_LINES", 0.0)
    train_on(tmp_path, s=[prose(200, seed=n) for n in range(20)])

    def stop(line: str) -> None:
        raise StoppedOnRequest(line)

    with pytest.raises(StoppedOnRequest, match="looked for benchmark items in 400 of"):
        scan(tmp_path, [benchmark(answer_item())], processes=2, say=stop)


# What is kept


@pytest.fixture
def scanned(tmp_path: Path) -> tuple[Path, Path, Contamination]:
    root, path = tmp_path / "data", tmp_path / "contamination.json"
    train_on(root, s=[around(QUESTION)], t=[prose(90, seed=3)])
    return root, path, scan_once(path, root, benchmarks=[benchmark(answer_item())])


def test_what_was_found_is_read_back(scanned: tuple[Path, Path, Contamination]) -> None:
    _, path, found = scanned
    assert found.findings
    assert read_contamination(path) == found
    content = path.read_bytes()
    write_contamination(path, found)
    assert path.read_bytes() == content


def test_what_has_not_changed_is_not_looked_at_again(
    scanned: tuple[Path, Path, Contamination],
) -> None:
    root, path, found = scanned
    for shard in root.glob("*/train-*.bin"):
        shard.unlink()
    assert scan_once(path, root, benchmarks=[benchmark(answer_item())]) == found


def test_changed_items_are_looked_for_again(scanned: tuple[Path, Path, Contamination]) -> None:
    root, path, _ = scanned
    other = benchmark(answer_item("new name"))
    assert scan_once(path, root, benchmarks=[other]).dirty == {"triviaqa": ["new name"]}
    assert read_contamination(path).dirty == {"triviaqa": ["new name"]}


def test_a_changed_source_is_looked_at_again(
    scanned: tuple[Path, Path, Contamination], tmp_path: Path
) -> None:
    _, path, found = scanned
    root = tmp_path / "other"
    train_on(root, s=[prose(90, seed=4)], t=[prose(90, seed=3)])
    now = scan_once(path, root, benchmarks=[benchmark(answer_item())])
    assert now.dirty == {"triviaqa": []}
    assert now.sources["t"] == found.sources["t"]


def broken(value: dict, key: str, new: object) -> dict:
    return {**value, key: new}


def test_a_damaged_file_is_a_clear_error(scanned: tuple[Path, Path, Contamination]) -> None:
    root, path, _ = scanned
    good = json.loads(path.read_text())
    finding = good["findings"][0]
    damaged: list[object] = [
        [],
        {},
        broken(good, "more", 1),
        broken(good, "findings", None),
        broken(good, "findings", [broken(finding, "documents", "two")]),
        broken(good, "findings", [broken(finding, "masked", 0)]),
        broken(good, "findings", [broken(finding, "task", "unheard of")]),
        broken(good, "sources", {"s": 3}),
    ]
    for content in ("", "{", "\x00", "[" * 5000, *map(json.dumps, damaged)):
        path.write_text(content)
        with pytest.raises(CorruptDataError, match=r"contamination.json .*delete it"):
            scan_once(path, root, benchmarks=[benchmark(answer_item())])


@pytest.mark.fault(37)
def test_processes_that_look_for_items_hold_no_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_planted")
    monkeypatch.setattr(scan_module, "scan_stretch", _variables)
    corpus = scan_module.Corpus(Path(), Manifest(1, "", {}, {}), ())
    pieces, wanted = [stretch.Stretch("any", 0, 1)] * 2, wanted_items([benchmark(answer_item())])
    told = list(scan_module._results(pieces, Judge(wanted), corpus=corpus, processes=2))
    assert len(told) == 2
    for names in told:
        assert "PATH" in names
        assert "HF_TOKEN" not in names
    assert "HF_TOKEN" in os.environ


def _variables(_: stretch.Stretch, **__: object) -> list[str]:
    return list(os.environ)
