"""Near duplicates are found where they are planted, and clean text is left alone."""

import random
from pathlib import Path

import numpy as np

from tests.data.memory import MemorySource, plan, prepare_plans
from yxanul.data.duplicates.minhash import HASHES, MinHash, band_keys, similarity
from yxanul.data.duplicates.signatures import signature_row, written_signatures
from yxanul.data.prepared.documents import read_documents
from yxanul.data.prepared.dropped import read_dropped
from yxanul.data.prepared.manifest import SPLITS

WORDS = [f"word{n}" for n in range(5000)]
# Of "a text of six words here".
SIGNATURE = [13643, 51147, 5779, 18535]
BAND = 10444097823342816737


def text_of(draw: random.Random, count: int = 200) -> list[str]:
    return draw.choices(WORDS, k=count)


def runs(words: list[str]) -> set[tuple[str, ...]]:
    return {tuple(words[n : n + 5]) for n in range(len(words) - 4)}


def jaccard(one: list[str], other: list[str]) -> float:
    a, b = runs(one), runs(other)
    return len(a & b) / len(a | b)


def changed(words: list[str], draw: random.Random, *, until: float) -> list[str]:
    """Return the words with as many replaced as bring the similarity down to `until`."""
    found = list(words)
    while True:
        trial = list(found)
        trial[draw.randrange(len(trial))] = draw.choice(WORDS)
        if jaccard(words, trial) < until:
            return found
        found = trial


def test_the_share_of_equal_minima_is_the_jaccard_similarity() -> None:
    draw, minhash = random.Random(1), MinHash()
    for until in (0.9, 0.7, 0.5):
        errors = []
        for _ in range(40):
            words = text_of(draw)
            other = changed(words, draw, until=until)
            one, two = (minhash.signature(" ".join(text)) for text in (words, other))
            errors.append(similarity(one, two) - jaccard(words, other))
        assert abs(np.mean(errors)) < 0.03
        assert np.std(errors) < 2 * (until * (1 - until) / HASHES) ** 0.5


def test_case_and_punctuation_do_not_count_and_short_texts_have_a_signature() -> None:
    minhash = MinHash()
    one = minhash.signature("The town, and the river; and more.")
    assert np.array_equal(one, minhash.signature("the TOWN and the river and more"))
    assert not np.array_equal(minhash.signature("one"), minhash.signature("two"))
    assert np.array_equal(minhash.signature(""), minhash.signature("..."))


def test_signatures_do_not_change_between_versions() -> None:
    """They lie on disks: another one would make old data forget its texts."""
    assert MinHash().signature("a text of six words here")[:4].tolist() == SIGNATURE
    assert band_keys(MinHash().signature("a text of six words here"))[0] == BAND


def test_planted_near_duplicates_are_found_and_clean_text_is_kept(tmp_path: Path) -> None:
    draw = random.Random(2)
    clean = [text_of(draw, draw.randrange(60, 400)) for _ in range(1000)]
    planted = [changed(words, draw, until=0.8) for words in clean[:200]]
    texts = [" ".join(words) for words in (*clean, *planted)]
    source = MemorySource("s", texts)
    manifest = prepare_plans(tmp_path, plans=[plan(source, near_duplicates=0.7)])
    dropped = {one.id: one.drop for one in read_dropped(manifest, tmp_path, source="s")}
    found = [n for n in range(1000, 1200) if f"s-{n}" in dropped]
    assert len(found) >= 0.95 * 200
    assert sum(f"s-{n}" in dropped for n in range(1000)) <= 0.005 * 1000
    # Each names the text that it is near to.
    sha256 = {
        document.sha256[:16]: document.id
        for split in SPLITS
        for _, document in read_documents(manifest, tmp_path, source="s", split=split)
    }
    for n in found:
        drop = dropped[f"s-{n}"]
        assert drop.value is not None
        assert drop.value >= 0.7 == drop.limit
        assert drop.detail is not None
        assert sha256[drop.detail.rpartition(" ")[2].rstrip(".")] == f"s-{n - 1000}"


def test_near_duplicates_are_found_across_stages_that_are_prepared_one_by_one(
    tmp_path: Path,
) -> None:
    draw = random.Random(3)
    first = [text_of(draw) for _ in range(60)]
    second = [changed(words, draw, until=0.85) for words in first[:20]]
    second += [text_of(draw) for _ in range(40)]
    plans = [
        plan(MemorySource(name, [" ".join(t) for t in texts]), stage=name, near_duplicates=0.7)
        for name, texts in (("one", first), ("two", second))
    ]
    at_once = prepare_plans(tmp_path / "at_once", plans=plans)
    prepare_plans(tmp_path / "by_one", plans=plans[:1])
    by_one = prepare_plans(tmp_path / "by_one", plans=plans[1:])
    assert at_once == by_one
    assert at_once.sources["two"].dropped == {"near_duplicate": 20}


def test_without_a_threshold_there_are_no_signatures(tmp_path: Path) -> None:
    texts = [" ".join(text_of(random.Random(n))) for n in range(50)]
    manifest = prepare_plans(tmp_path, plans=[plan(MemorySource("s", texts))])
    assert manifest.sources["s"].train.signatures is None
    assert not list(tmp_path.rglob("*.signatures.bin"))


def test_signatures_are_read_back_in_the_order_of_writing(tmp_path: Path) -> None:
    folder = tmp_path / "s"
    folder.mkdir()
    signatures = [MinHash().signature(f"text number {n} of some") for n in range(6)]
    places = {"train": [0, 2, 3, 5], "validation": [1, 4]}
    for split, numbers in places.items():
        rows = b"".join(signature_row(signatures[n], n) for n in numbers)
        (folder / f"{split}.signatures.bin").write_bytes(rows + b"half a row")
    digests = {s: iter([bytes([n]) * 32 for n in numbers]) for s, numbers in places.items()}
    found = list(written_signatures(folder, digests))
    assert [digest[0] for _, digest in found] == list(range(6))
    assert all(np.array_equal(a, b) for (a, _), b in zip(found, signatures, strict=True))
