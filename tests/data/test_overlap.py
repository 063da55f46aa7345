"""Held-out passages that are trained on as well are found, and nothing else is."""

import random
from pathlib import Path

import numpy as np
import pytest

from tests.data.memory import prepare_texts
from yxanul.data.inspection import overlap
from yxanul.data.inspection.overlap import RUN_TOKENS, Overlap, held_out_overlap
from yxanul.data.prepared.documents import read_documents
from yxanul.data.prepared.manifest import Manifest
from yxanul.data.prepared.shards import open_stream
from yxanul.data.tokenizer import load_tokenizer

WORDS = 60


def fresh(draw: random.Random) -> str:
    """Return words that nobody else has in this order."""
    return " ".join(str(draw.randrange(10**6)) for _ in range(WORDS))


def found(tmp_path: Path, **sources: list[str]) -> tuple[Manifest, dict[str, Overlap]]:
    manifest = prepare_texts(tmp_path, **sources)
    return manifest, {one.source: one for one in held_out_overlap(manifest, tmp_path)}


def held_out(manifest: Manifest, root: Path, source: str) -> list[str]:
    """Return the texts of the held-out side."""
    stream = open_stream(manifest, root, source=source, split="validation")
    documents = read_documents(manifest, root, source=source, split="validation")
    decode = load_tokenizer().decode
    return [decode(stream.read(start + 1, d.tokens - 1).tolist()) for start, d in documents]


def test_texts_that_share_nothing_have_no_overlap(tmp_path: Path) -> None:
    draw = random.Random(1)
    _, shares = found(tmp_path, stones=[fresh(draw) for _ in range(200)])
    assert shares["stones"].documents > 0
    assert (shares["stones"].runs, shares["stones"].nearly_whole) == (0.0, 0)
    assert shares["stones"].most == ()


@pytest.mark.parametrize("block", [overlap._BLOCK_TOKENS, 50])
def test_a_passage_in_another_source_is_found_where_it_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int
) -> None:
    monkeypatch.setattr(overlap, "_BLOCK_TOKENS", block)
    draw = random.Random(2)
    stones = [fresh(draw) for _ in range(200)]
    manifest, _ = found(tmp_path / "alone", stones=stones)
    whole, half, *_ = held_out(manifest, tmp_path / "alone", "stones")
    words = half.split()
    trees = [fresh(draw) for _ in range(60)]
    # Two documents of the other source quote them; more than one, since one in ten is held out.
    trees += [f"{number} said: {whole} and left" for number in range(6)]
    trees += [f"{number} said: {' '.join(words[: WORDS // 2])} and left" for number in range(6)]
    _, shares = found(tmp_path / "both", stones=stones, trees=trees)
    first, second = shares["stones"].most
    assert first.share > 0.95
    assert second.share == pytest.approx(0.5, abs=0.15)
    assert {first.training_source, second.training_source} == {"trees"}
    quoting = [n for n, text in enumerate(trees) if whole in text]
    assert int(first.training_id.rpartition("-")[2]) in quoting
    assert shares["stones"].nearly_whole == 1
    assert 0 < shares["stones"].runs < 0.2


def test_runs_do_not_cross_documents_and_hashes_differ() -> None:
    tokens = np.array([overlap.EOT, *range(20), overlap.EOT, *range(12)], dtype=np.uint16)
    hashes, places = overlap._hashes(tokens)
    assert places.tolist() == list(range(1, 9))
    assert len(set(hashes.tolist())) == 8
    assert len(overlap._hashes(tokens[: RUN_TOKENS - 1])[0]) == 0
    swapped = tokens.copy()
    swapped[[3, 4]] = swapped[[4, 3]]
    assert overlap._hashes(swapped)[0][0] != hashes[0]


def test_a_document_that_goes_beyond_what_is_looked_at_is_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(overlap, "HELD_OUT_TOKENS", 100)
    draw = random.Random(3)
    stones = [fresh(draw) for _ in range(100)]
    trees = [f"{number} said: {text} and left" for number, text in enumerate(stones)]
    manifest, shares = found(tmp_path, stones=stones, trees=trees)
    _, first = next(read_documents(manifest, tmp_path, source="stones", split="validation"))
    assert first.tokens > 100
    assert shares["stones"].documents == 1
    assert shares["stones"].runs > 0.9
