"""`inspect` tells what is in a prepared folder and where each token came from."""

import json
from pathlib import Path

import pytest

from tests.data.memory import prepare_texts, sentences
from yxanul.data.inspect import inspect_folder, render
from yxanul.data.manifest import load_manifest
from yxanul.data.shards import open_stream
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
        place = inspect_folder(root, token=starts[number] + offset).token[0]
        assert (place.source, place.offset) == ("stones", offset)
        assert place.token == int(stream.read(starts[number] + offset, 1)[0])
        assert place.document_id.startswith("stones-")
        assert place.url == place.document_id.replace("stones-", "memory:")
        assert place.document_id in render(inspect_folder(root, token=place.position))


def test_a_token_after_the_end_is_a_usage_error(root: Path) -> None:
    with pytest.raises(UsageError, match="has a token 99,999"):
        inspect_folder(root, token=99_999)


def test_control_characters_of_a_sample_do_not_reach_the_terminal(root: Path) -> None:
    assert all(char.isprintable() or char == "\n" for char in render(inspect_folder(root)))


def test_verify_reads_every_byte(root: Path) -> None:
    assert "every byte verified" in render(inspect_folder(root, verify_contents=True))
    shard = root / "trees/train-00000.bin"
    content = shard.read_bytes()
    shard.write_bytes(content[:2] + bytes([content[2] ^ 1]) + content[3:])
    try:
        inspect_folder(root, token=0)
        with pytest.raises(CorruptShardError, match=r"trees/train-00000\.bin is damaged"):
            inspect_folder(root, verify_contents=True)
    finally:
        shard.write_bytes(content)
