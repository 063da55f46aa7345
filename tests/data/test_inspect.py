"""`inspect` tells what is in a prepared folder and where each token came from."""

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from tests.data.memory import MemorySource, plan, prepare_plans, prepare_texts, sentences
from yxanul.data import progress
from yxanul.data.document import Document
from yxanul.data.inspection import explain as explain_module
from yxanul.data.inspection.card import write_cards
from yxanul.data.inspection.inspect import Questions, inspect_folder, render
from yxanul.data.prepared.documents import DocumentRecord, read_documents
from yxanul.data.prepared.manifest import load_manifest
from yxanul.data.prepared.shards import open_stream
from yxanul.data.prepared.verify import verify
from yxanul.data.tokenizer import EOT
from yxanul.errors import CorruptShardError, UsageError


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("inspect")
    stones = [*sentences(80), sentences(1)[0], "\x1b[31m red stones"]
    prepare_texts(folder, stones=stones, trees=sentences(60, about="tree"))
    return folder


def test_counts_licences_and_samples_are_shown(root: Path) -> None:
    inspection = inspect_folder(root)
    stones = inspection.sources[0]
    record = load_manifest(root).sources["stones"]
    assert stones.train.tokens == record.train.tokens
    assert stones.dropped == {"duplicate": 1}
    text = render(inspection)
    for part in ("stones", "trees", "CC0-1.0", "1 duplicate", "Number 0 of the trees", "held out"):
        assert part in text
    assert "names and sizes checked" in text
    assert json.loads(json.dumps(inspection.to_json()))["sources"][1]["name"] == "trees"


def test_every_token_leads_to_its_document(root: Path) -> None:
    stream = open_stream(load_manifest(root), root, source="stones", split="train")
    starts = [place for place, token in enumerate(stream.read(0, 300).tolist()) if token == EOT]
    for number, offset in ((1, 0), (2, 1), (3, 3)):
        place = inspect_folder(root, Questions(token=starts[number] + offset)).token[0]
        assert (place.source, place.offset) == ("stones", offset)
        assert place.token == int(stream.read(starts[number] + offset, 1)[0])
        assert place.document_id.startswith("stones-")
        assert place.url == place.document_id.replace("stones-", "memory:")
        assert place.document_id in render(inspect_folder(root, Questions(token=place.position)))


def test_a_token_after_the_end_is_a_usage_error(root: Path) -> None:
    with pytest.raises(UsageError, match="has a token 99,999"):
        inspect_folder(root, Questions(token=99_999))


def test_control_characters_of_a_sample_do_not_reach_the_terminal(root: Path) -> None:
    assert all(char.isprintable() or char == "\n" for char in render(inspect_folder(root)))


class Strange(MemorySource):
    """Documents whose names and addresses, and a licence that, would paint the terminal."""

    def _documents(self) -> Iterator[Document]:
        for number, text in enumerate(self.texts):
            yield Document(text, self.name, f"\x1b[31m{number}\n", f"http://a/\x1b[2J\r{number}")


def test_the_words_of_strangers_do_not_reach_the_terminal_as_they_are(tmp_path: Path) -> None:
    licence = "\x1b]0;owned\x07 " + "All rights are reserved. " * 40
    texts = [*sentences(80), "short"]
    source = Strange("s", texts, licence=licence, attribution="\x1b[1mme\r\n", version="1\x1b[0m")
    prepare_plans(tmp_path, plans=[plan(source, min_tokens=6)])
    found = inspect_folder(tmp_path, Questions(token=5, dropped=True, overlap=True))
    assert found.sources[0].licence == licence, "it is whole for --json"
    text = render(found)
    assert all(char.isprintable() or char == "\n" for char in text)
    assert max(map(len, text.splitlines())) < 600
    assert "http://a/\\x1b[2J\\r" in text
    assert "\\x1b[31m80\\n: 5, the limit is 6; bytes" in text


def test_verify_reads_every_byte(root: Path) -> None:
    assert "every byte verified" in render(inspect_folder(root, Questions(verify=True)))
    shard = root / "trees/train-00000.bin"
    content = shard.read_bytes()
    shard.write_bytes(content[:2] + bytes([content[2] ^ 1]) + content[3:])
    try:
        inspect_folder(root, Questions(token=0))
        with pytest.raises(CorruptShardError, match=r"trees/train-00000\.bin is damaged"):
            inspect_folder(root, Questions(verify=True))
    finally:
        shard.write_bytes(content)


def test_packing_is_told_for_every_source_and_length(root: Path) -> None:
    found = inspect_folder(root, Questions(packing=64))
    assert {one.source for one in found.packing} == {"stones", "trees"}
    assert {one.seq_len for one in found.packing} == {64, 32, 16, 8}
    lines = render(found).splitlines()
    assert sum(line.startswith(("  stones ", "  trees ")) and "%" in line for line in lines) == 8


def test_overlap_is_told_for_every_source(root: Path) -> None:
    text = render(inspect_folder(root, Questions(overlap=True)))
    assert "of the runs of" in text
    assert text.count("documents are found to 80% or more") == 2


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        (Questions(token=7), "documents of stones looked through"),
        (Questions(dropped=True), "dropped documents looked through"),
        (Questions(packing=64), "documents of trees looked through"),
        (Questions(packing=64), "chunks of trees in rows of 32 looked through"),
        (Questions(overlap=True), "trees: 0 of "),
    ],
)
def test_a_long_answer_tells_how_far_it_is(
    root: Path, monkeypatch: pytest.MonkeyPatch, asked: Questions, told: str
) -> None:
    monkeypatch.setattr(progress, "_PROGRESS_S", 0)
    said: list[str] = []
    inspect_folder(root, asked, progress=said.append)
    assert any(told in line for line in said)


@pytest.fixture(scope="module")
def dropped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with short, equal and nearly equal texts; one of them tries to be markup."""
    draw = random.Random(1)
    words = [f"word{n}" for n in range(900)]
    texts = [" ".join(draw.choices(words, k=120)) for _ in range(60)]
    texts[0] = f"<b>| `bold` |</b> ![x](http://example.org/x)\n{texts[0]}"
    texts += [texts[1], texts[2], f"{texts[3]} and the end", "short\x1b[31m"]
    root = tmp_path_factory.mktemp("dropped")
    prepare_plans(root, plans=[plan(MemorySource("s", texts), min_tokens=20, near_duplicates=0.7)])
    return root


def test_every_rule_tells_its_number_and_shows_samples(dropped: Path) -> None:
    (found,) = inspect_folder(dropped, Questions(dropped=True)).dropped
    assert found.kept == 60
    rules = {rule.rule: rule for rule in found.rules}
    assert {name: rule.documents for name, rule in rules.items()} == {
        "duplicate": 2,
        "near_duplicate": 1,
        "too_short": 1,
    }
    (near,) = rules["near_duplicate"].samples
    assert near.id == "s-62"
    assert near.url == "memory:62"
    assert near.why.endswith("(s-3)"), "the text that it is near to is named"
    assert ", the limit is 0.7; " in near.why
    (short,) = rules["too_short"].samples
    assert short.why == "9, the limit is 20; bytes"
    assert len(found.kept_samples) == 3
    text = render(inspect_folder(dropped, Questions(dropped=True)))
    assert "s: 60 documents kept, 4 dropped" in text
    assert all(char.isprintable() or char == "\n" for char in text)


def test_a_card_per_stage_says_what_the_manifest_says(dropped: Path) -> None:
    manifest = load_manifest(dropped)
    write_cards(manifest, dropped)
    (stage,) = manifest.stages
    card = (dropped / "cards" / f"{stage}.md").read_text()
    for part in ("CC0-1.0", "the tests", "tests 1", "| near_duplicate | 1 | 1.56% |", "s-62"):
        assert part in card
    assert "| kept | 60 | 93.75% |" in card
    assert "<b>" not in card
    assert "`bold`" not in card
    assert "![x]" not in card
    for name in ("sources", "lengths", "dropped"):
        assert f"({stage}-{name}.svg)" in card
        tree = ElementTree.parse(dropped / "cards" / f"{stage}-{name}.svg")
        assert tree.getroot().tag == "{http://www.w3.org/2000/svg}svg"
    verify(manifest, dropped)
    before = (dropped / "cards" / f"{stage}.md").stat().st_mtime_ns
    write_cards(manifest, dropped)
    assert (dropped / "cards" / f"{stage}.md").stat().st_mtime_ns == before
    (dropped / "cards" / f"{stage}.md").write_text("of other data")
    write_cards(manifest, dropped)
    assert (dropped / "cards" / f"{stage}.md").read_text() == card


def test_a_stage_is_explained_by_one_pass_that_ends_with_what_it_looks_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def near(about: str) -> list[str]:
        texts = sentences(60, about=about)
        return [*texts, f"{texts[29]} and more", f"{texts[31]} and more"]

    plans = [
        plan(MemorySource(name, near(name)), stage=stage, near_duplicates=0.9)
        for name, stage in (("a", "one"), ("b", "one"), ("c", "two"))
    ]
    manifest = prepare_plans(tmp_path, plans=plans)
    for file in (tmp_path / "c").iterdir():
        file.unlink()
    read: list[str] = []

    def counting(*args: Any, **which: str) -> Iterator[tuple[int, DocumentRecord]]:
        read.append(which["source"])
        return read_documents(*args, **which)

    monkeypatch.setattr(explain_module, "read_documents", counting)
    found = explain_module.explain(manifest, tmp_path, stage="one")
    assert [one.source for one in found] == ["a", "b"]
    for one in found:
        (rule,) = [rule for rule in one.rules if rule.rule == "near_duplicate"]
        assert all(f"({one.source}-" in sample.why for sample in rule.samples)
    # Two sides each for the names, and the training side of each for what was kept.
    assert sorted(read) == ["a"] * 3 + ["b"] * 3


def test_a_damaged_list_of_dropped_documents_names_file_and_line(dropped: Path) -> None:
    place = dropped / "s" / "dropped.jsonl"
    whole = place.read_bytes()
    place.write_bytes(whole.replace(b'"rule":"duplicate"', b'"rule":3          ', 1))
    with pytest.raises(CorruptShardError, match=r"dropped\.jsonl line 1: rule must be a string"):
        inspect_folder(dropped, Questions(dropped=True))
    with pytest.raises(CorruptShardError, match="is damaged"):
        inspect_folder(dropped, Questions(verify=True))
    place.write_bytes(whole)
