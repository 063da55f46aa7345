"""Generated sources: every trace is true, verified by its family, and the same in every process."""

import hashlib
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from yxanul.data.document import Document
from yxanul.data.sources import mathematics, reasoning
from yxanul.data.sources.traces import logic, sums
from yxanul.data.sources.traces.trace import Phrasing, open_family

SEED = 11
Reader = Callable[..., Iterator[Document]]
READERS = [
    (reasoning.read_documents, 10 * len(reasoning.FAMILIES)),
    (mathematics.read_arithmetic, 20 * len(mathematics.FAMILIES)),
    (mathematics.read_gsm_symbolic, 300),
]


def read(reader: Reader, count: int, seed: int = SEED) -> list[Document]:
    return list(reader(seed=seed, count=count, dropped=Counter()))


def digest(documents: list[Document]) -> str:
    written = "\n".join(f"{d.id}\n{d.split_key}\n{d.text}" for d in documents)
    return hashlib.sha256(written.encode()).hexdigest()


@pytest.mark.parametrize(("reader", "count"), READERS)
def test_two_readings_are_equal_and_ids_are_unique(reader: Reader, count: int) -> None:
    first, second = read(reader, count), read(reader, count)
    assert first == second
    assert len({document.id for document in first}) == len(first)
    assert len(first) > 0.9 * count


@pytest.mark.parametrize(("reader", "count"), READERS)
def test_another_seed_gives_other_documents(reader: Reader, count: int) -> None:
    texts = {document.text for document in read(reader, count)}
    others = {document.text for document in read(reader, count, SEED + 1)}
    assert len(texts & others) < 0.1 * len(texts)


@pytest.mark.parametrize(("reader", "count"), READERS)
def test_a_longer_reading_begins_with_the_shorter_one(reader: Reader, count: int) -> None:
    short, long = read(reader, count // 2), read(reader, count)
    assert long[: len(short)] == short


@pytest.mark.parametrize(("reader", "count"), READERS)
def test_texts_have_three_parts_and_no_control_characters(reader: Reader, count: int) -> None:
    for document in read(reader, count):
        assert re.fullmatch(
            r"Question: .+\n\nReasoning:\n.+\n\nAnswer: .+", document.text, re.DOTALL
        ), document.text
        assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f]", document.text)
        assert document.text == document.text.strip()


@pytest.mark.parametrize(
    ("reader", "families", "count"),
    [
        (reasoning.read_documents, reasoning.FAMILIES, 20 * len(reasoning.FAMILIES)),
        (mathematics.read_arithmetic, mathematics.FAMILIES, 20 * len(mathematics.FAMILIES)),
    ],
)
def test_the_printed_answer_gets_full_marks_from_the_library(reader, families, count) -> None:
    seen = set()
    for document in read(reader, count):
        _, name, index = document.id.split("/")
        settings = families[name].settings
        dataset = open_family(name, seed=SEED, size=count // len(families), settings=settings)
        answer = document.text.split("\n\nAnswer: ")[-1]
        assert dataset.score_answer(answer, dataset[int(index)]) == 1.0, document.text
        seen.add(name)
    assert seen == set(families)


def test_every_dropped_item_is_counted() -> None:
    dropped = Counter[str]()
    count = 40 * len(reasoning.FAMILIES)
    documents = list(reasoning.read_documents(seed=SEED, count=count, dropped=dropped))
    assert len(documents) + sum(dropped.values()) == count


def test_generated_texts_do_not_depend_on_pythons_hash_seed() -> None:
    program = (
        "import sys; sys.path[:0] = sys.argv[1:]\n"
        "from test_sources_traces import READERS, digest, read\n"
        "print(*(digest(read(reader, count)) for reader, count in READERS))\n"
    )
    here = Path(__file__).parent
    source = Path(reasoning.__file__).parents[3]
    found = subprocess.run(
        [sys.executable, "-c", program, str(here), str(source)],
        env={**os.environ, "PYTHONHASHSEED": "4321"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert found.stdout.split() == [digest(read(reader, count)) for reader, count in READERS]


def test_word_problems_are_held_out_by_template() -> None:
    documents = read(mathematics.read_gsm_symbolic, 2000)
    keys = {document.split_key for document in documents}
    assert len(keys) >= 50
    assert all(document.id.startswith(f"{document.split_key}/") for document in documents)
    # Two problems of one template are worded alike: they share most of their words.
    by_key: dict[str | None, list[set[str]]] = {}
    for document in documents:
        question = document.text.split("\n\nReasoning")[0]
        by_key.setdefault(document.split_key, []).append(set(re.findall(r"[a-z]+", question)))
    pairs = [words[:2] for words in by_key.values() if len(words) > 1]
    assert all(len(a & b) > 0.4 * len(a | b) for a, b in pairs)


def test_word_problems_end_in_whole_numbers_written_whole() -> None:
    for document in read(mathematics.read_gsm_symbolic, 1000):
        assert not re.search(r"\d\.0(?!\d)|Give the result|####", document.text), document.text


@pytest.mark.parametrize(
    ("written", "number"),
    [("36.0", "36"), ("36", "36"), ("1,200", "1200"), ("2.50", "2.5"), ("100", "100"), ("x", None)],
)
def test_numbers_lose_a_needless_fraction(written: str, number: str | None) -> None:
    assert mathematics.normal_number(written) == number


@pytest.mark.parametrize(
    ("steps", "wrong"),
    [
        ("So 12 + 24 + 34 = 70 students.", []),
        ("So 12 + 24 + 34 = 71 students.", ["12 + 24 + 34 = 71"]),
        ("That is 0.22*80 = 17 students.", ["0.22*80 = 17"]),
        ("He pays $42.52 - $11.52 = $31 now.", []),
        ("There are 120 questions x 35/100 = 42 questions.", []),
        ("A share of 6 / 12 = 50% is left.", []),
        ("About 10 / 3 = 3.33 each.", []),
    ],
)
def test_wrong_equations_are_found(steps: str, wrong: list[str]) -> None:
    # A result is judged to the places it shows, so "= $31" is 31.00 rounded to 31.
    assert mathematics.wrong_equations(steps) == wrong


def test_an_invalid_syllogism_that_the_library_accepts_is_refused() -> None:
    # "Some animals are not doctors" says nothing about those animals that are children.
    facts = {
        "premise1": "All children are animals",
        "premise2": "Some animals are not doctors",
        "conclusion": "Some children are not doctors",
    }
    trace = logic.syllogism({"metadata": facts}, Phrasing("x"))
    assert trace is not None
    assert trace.answer == "No"
    assert "does not follow" in trace.steps


@pytest.mark.parametrize(
    ("premises", "conclusion", "answer"),
    [
        (("All cats are mammals", "All mammals are animals"), "All cats are animals", "Yes"),
        (("All cats are mammals", "No mammals are ants"), "No cats are ants", "Yes"),
        (("Some cats are chefs", "No chefs are ants"), "Some cats are not ants", "Yes"),
        (("All cats are mammals", "All mammals are animals"), "All animals are cats", "No"),
        (("Some cats are chefs", "Some chefs are ants"), "Some cats are ants", "No"),
        (("All cats are mammals", "All ants are bees"), "Some mammals are cats", "Yes"),
    ],
)
def test_syllogisms_are_decided_by_proof_or_counterexample(premises, conclusion, answer) -> None:
    facts = {"premise1": premises[0], "premise2": premises[1], "conclusion": conclusion}
    trace = logic.syllogism({"metadata": facts}, Phrasing("x"))
    assert trace is not None
    assert trace.answer == answer


def test_equations_of_arithmetic_steps_hold() -> None:
    equation = re.compile(r"^([-\d. ()+*/]+?) = ([-\d.]+)$", re.MULTILINE)
    checked = 0
    for document in read(mathematics.read_arithmetic, 40 * len(mathematics.FAMILIES)):
        steps = document.text.split("Reasoning:\n")[1].split("\n\nAnswer")[0]
        for left, right in equation.findall(steps):
            assert sums.exact_value(left) == sums.exact_value(right), document.text
            checked += 1
    assert checked > 300
