"""The documents that are scored are the same every time, whole, and spread over the set."""

import hashlib
from pathlib import Path

import numpy as np
import pytest

from tests.data.memory import MemorySource, plan, prepare_plans, prepare_texts, sentences
from yxanul.data.batches.validation import (
    PARTS,
    domain_documents,
    stage_documents,
    validation_documents,
)
from yxanul.data.prepared.documents import read_documents
from yxanul.data.prepared.manifest import Manifest
from yxanul.data.preparing.pipeline import PlannedSource
from yxanul.data.preparing.split import is_validation
from yxanul.data.tokenizer import EOT, load_tokenizer
from yxanul.errors import CorruptShardError, UsageError


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def chosen_texts(manifest: Manifest, root: Path, max_tokens: int) -> list[str]:
    tokenizer = load_tokenizer()
    documents = validation_documents(manifest, root, source="s", max_tokens=max_tokens)
    assert all(document[0] == EOT and document.dtype == np.uint16 for document in documents)
    assert all(EOT not in document[1:] for document in documents)
    return [tokenizer.decode(document[1:].tolist()) for document in documents]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> tuple[Manifest, Path]:
    root = tmp_path_factory.mktemp("validation")
    return prepare_texts(root, s=sentences(300)), root


def test_a_large_budget_takes_everything(prepared: tuple[Manifest, Path]) -> None:
    manifest, root = prepared
    texts = chosen_texts(manifest, root, 10**9)
    assert len(texts) == manifest.sources["s"].validation.documents
    assert set(texts) <= set(sentences(300))


def test_a_smaller_budget_scores_the_beginning_of_the_same_list(
    prepared: tuple[Manifest, Path],
) -> None:
    manifest, root = prepared
    everything = chosen_texts(manifest, root, 10**9)
    some = chosen_texts(manifest, root, 1000)
    assert 1 < len(some) < len(everything)
    assert some == everything[: len(some)]


def test_the_budget_is_passed_by_less_than_one_document(prepared: tuple[Manifest, Path]) -> None:
    manifest, root = prepared
    for budget in (100, 500, 1000):
        documents = validation_documents(manifest, root, source="s", max_tokens=budget)
        assert sum(map(len, documents[:-1])) < budget <= sum(map(len, documents))


def test_the_choice_does_not_depend_on_the_order_of_preparing(
    prepared: tuple[Manifest, Path], tmp_path: Path
) -> None:
    manifest, root = prepared
    turned = prepare_texts(tmp_path, s=sentences(300)[::-1])
    assert chosen_texts(turned, tmp_path, 800) == chosen_texts(manifest, root, 800)


def test_the_choice_is_spread_over_the_set(prepared: tuple[Manifest, Path]) -> None:
    manifest, root = prepared
    found = {
        document.sha256: position
        for position, document in read_documents(manifest, root, source="s", split="validation")
    }
    whole = manifest.sources["s"].validation.tokens
    texts = chosen_texts(manifest, root, whole // 3)
    places = [found[sha256(text)] / whole for text in texts]
    assert min(places) < 0.3
    assert max(places) > 0.7


def test_no_document_is_more_than_an_eighth_of_the_budget(tmp_path: Path) -> None:
    long = next(
        text
        for text in (f"long {n}" + " word" * 3000 for n in range(99))
        if is_validation(sha256(text), split_key=None, fraction=0.2)
    )
    plans = [plan(MemorySource("s", [*sentences(200), long]))]
    manifest = prepare_plans(tmp_path, plans=plans, shard_tokens=10**6)
    everything = chosen_texts(manifest, tmp_path, 10**6)
    assert long in everything
    some = validation_documents(manifest, tmp_path, source="s", max_tokens=1600)
    assert max(map(len, some)) <= 1600 // PARTS
    assert len(some) >= PARTS


def test_a_tiny_budget_still_scores_something(prepared: tuple[Manifest, Path]) -> None:
    manifest, root = prepared
    first = validation_documents(manifest, root, source="s", max_tokens=10**9)[0]
    cut = validation_documents(manifest, root, source="s", max_tokens=5)
    assert [len(document) for document in cut] == [2, 2, 2]
    assert cut[0].tolist() == first[:2].tolist()


def test_a_budget_without_a_token_to_score_is_refused(prepared: tuple[Manifest, Path]) -> None:
    manifest, root = prepared
    with pytest.raises(UsageError, match="at least 2"):
        validation_documents(manifest, root, source="s", max_tokens=1)
    with pytest.raises(UsageError, match="no source t"):
        validation_documents(manifest, root, source="t", max_tokens=10)


def test_an_index_that_does_not_fit_the_tokens_is_refused(tmp_path: Path) -> None:
    manifest = prepare_texts(tmp_path, s=sentences(300))
    path = tmp_path / "s/validation.documents.jsonl"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[1], lines[0], *lines[2:]]))
    with pytest.raises(CorruptShardError, match="no validation document begins at token"):
        validation_documents(manifest, tmp_path, source="s", max_tokens=10**9)


def test_each_stage_has_its_own_documents_and_a_domain_of_two_is_refused(tmp_path: Path) -> None:
    def planned(name: str, stage: str, domain: str) -> PlannedSource:
        return plan(MemorySource(name, sentences(80, about=name), domain=domain), stage=stage)

    plans = [planned("a", "one", "x"), planned("b", "two", "y"), planned("c", "three", "x")]
    manifest = prepare_plans(tmp_path, plans=plans)
    found = stage_documents(manifest, tmp_path, tokens_per_domain={"one": 400, "two": 200})
    assert list(found) == ["one", "two"]
    for stage, tokens in (("one", 400), ("two", 200)):
        wanted = domain_documents(manifest, tmp_path, stage=stage, tokens_per_domain=tokens)
        for domain, documents in wanted.items():
            pairs = zip(found[stage][domain], documents, strict=True)
            assert all(np.array_equal(*pair) for pair in pairs)
    with pytest.raises(UsageError, match="domain x in two stages, one and three"):
        stage_documents(manifest, tmp_path, tokens_per_domain={"one": 400, "three": 400})
