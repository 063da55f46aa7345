"""Preparing is a function of documents and settings, counts what it drops, and can be killed."""

import fcntl
import hashlib
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.data.memory import MemorySource, all_bytes, plan, prepare_plans, prepare_texts, sentences
from yxanul.data.document import Document
from yxanul.data.prepared.documents import read_documents
from yxanul.data.prepared.manifest import SPLITS, Manifest, load_manifest
from yxanul.data.prepared.shards import open_stream
from yxanul.data.prepared.verify import verify
from yxanul.data.preparing import reading
from yxanul.data.preparing.build import prepare_sources
from yxanul.data.tokenizer import EOT, load_tokenizer
from yxanul.data.treating.clean import clean, reason_to_drop
from yxanul.errors import CorruptShardError, UsageError


class Killed(BaseException):
    """Stands for SIGKILL: nothing in the program catches it."""


class DyingSource(MemorySource):
    """Gives its texts and dies."""

    def _documents(self) -> Iterator[Document]:
        yield from super()._documents()
        raise Killed


def texts_of(manifest: Manifest, root: Path, source: str, split: str) -> list[str]:
    """Return a side's documents, decoded from the shards."""
    stream = open_stream(manifest, root, source=source, split=split)
    tokens = stream.read(0, len(stream))
    assert tokens[0] == EOT
    parts = np.split(tokens, np.flatnonzero(tokens == EOT))[1:]
    tokenizer = load_tokenizer()
    return [tokenizer.decode(part[1:].tolist()) for part in parts]


def test_every_document_is_on_one_side_and_whole(tmp_path: Path) -> None:
    texts = [*sentences(100), "with <|endoftext|> inside", "日本 😀\n\n\tnaïve"]
    manifest = prepare_texts(tmp_path, stones=texts)
    train = texts_of(manifest, tmp_path, "stones", "train")
    validation = texts_of(manifest, tmp_path, "stones", "validation")
    assert sorted(train + validation) == sorted(texts)
    assert not set(train) & set(validation)
    assert [text for text in texts if text in set(train)] == train
    verify(manifest, tmp_path)


@settings(max_examples=25, deadline=None)
@given(
    texts=st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=30), max_size=12),
    batch=st.integers(1, 200),
)
def test_no_text_is_lost_or_doubled_whatever_the_batches(texts: list[str], batch: int) -> None:
    """In any batches the shards hold every different text once, in the order of the source."""
    every = [*sentences(40), *texts]
    with (
        tempfile.TemporaryDirectory() as place,
        patch.object(reading, "_BATCH_CHARACTERS", batch),
    ):
        root = Path(place)
        manifest = prepare_texts(root, s=every)
        train, validation = (texts_of(manifest, root, "s", split) for split in SPLITS)
    expected = list(dict.fromkeys(text for text in map(clean, every) if not reason_to_drop(text)))
    assert sorted(train + validation) == sorted(expected)
    assert [text for text in expected if text in set(train)] == train
    dropped = manifest.sources["s"].dropped
    assert len(every) == len(expected) + sum(dropped.values())


def test_the_manifest_counts_what_is_there(tmp_path: Path) -> None:
    manifest = prepare_texts(tmp_path, stones=sentences(100), trees=sentences(80, about="tree"))
    assert load_manifest(tmp_path) == manifest
    assert list(manifest.sources) == ["stones", "trees"]
    for name, source in manifest.sources.items():
        for split in ("train", "validation"):
            record = source.split(split)
            texts = texts_of(manifest, tmp_path, name, split)
            assert record.documents == len(texts)
            assert record.bytes == sum(len(text.encode()) for text in texts)
            assert record.tokens == sum(file.tokens for file in record.files)
            documents = list(read_documents(manifest, tmp_path, source=name, split=split))
            hashes = [hashlib.sha256(text.encode()).hexdigest() for text in texts]
            assert [document.sha256 for _, document in documents] == hashes
            assert documents[0][1].url is not None
    assert len(manifest.sources["stones"].train.files) > 1
    assert manifest.sources["stones"].licence == "CC0-1.0"


def test_equal_texts_stay_once_across_sources_and_what_is_dropped_is_counted(
    tmp_path: Path,
) -> None:
    first = MemorySource("first", [*sentences(60), sentences(60)[3] + " \r\n", "\x00"])
    second = MemorySource(
        "second", [*sentences(10), *sentences(60, about="tree")], dropped={"list": 4, "none": 0}
    )
    plans = [plan(first), plan(second, min_tokens=15)]
    manifest = prepare_plans(tmp_path, plans=plans)
    assert manifest.sources["first"].dropped == {"duplicate": 1, "empty": 1}
    dropped = manifest.sources["second"].dropped
    long = sum(len(load_tokenizer().encode(text)) >= 15 for text in sentences(10))
    assert (dropped["duplicate"], dropped["list"]) == (long, 4)
    assert dropped["too_short"] >= 10 - long > 0
    assert "none" not in dropped
    sides = [
        text
        for name in manifest.sources
        for split in ("train", "validation")
        for text in texts_of(manifest, tmp_path, name, split)
    ]
    assert len(sides) == len(set(sides))


def test_the_split_stays_when_the_set_grows_or_turns_round(tmp_path: Path) -> None:
    texts = sentences(150)
    few = prepare_texts(tmp_path / "few", s=texts[:60])
    many = prepare_texts(tmp_path / "many", s=texts[::-1])
    held_out = set(texts_of(few, tmp_path / "few", "s", "validation"))
    assert held_out == set(texts[:60]) & set(texts_of(many, tmp_path / "many", "s", "validation"))


def test_documents_with_one_key_stay_together(tmp_path: Path) -> None:
    texts = sentences(300)
    keys = [f"template {n % 60}" for n in range(300)]
    source = MemorySource("keyed", texts, keys=keys)
    manifest = prepare_plans(tmp_path, plans=[plan(source, fraction=0.001)])
    key_of = dict(zip(texts, keys, strict=True))
    sides = {
        split: {key_of[text] for text in texts_of(manifest, tmp_path, "keyed", split)}
        for split in ("train", "validation")
    }
    assert not sides["train"] & sides["validation"]
    assert sides["validation"]


def test_the_same_input_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        prepare_texts(tmp_path / name, stones=sentences(80), trees=sentences(80, about="tree"))
    assert all_bytes(tmp_path / "one") == all_bytes(tmp_path / "two")


def test_a_finished_folder_is_used_again_without_reading_a_source(tmp_path: Path) -> None:
    source = MemorySource("s", sentences(60))
    first = prepare_plans(tmp_path, plans=[plan(source)])
    before = all_bytes(tmp_path)
    dying = DyingSource("s", sentences(60))
    assert prepare_plans(tmp_path, plans=[plan(dying)]) == first
    assert all_bytes(tmp_path) == before


def test_other_settings_do_not_overwrite_a_finished_folder(tmp_path: Path) -> None:
    prepare_texts(tmp_path, s=sentences(60))
    before = all_bytes(tmp_path)
    with pytest.raises(UsageError, match="holds the stage stage1_tests, prepared with other"):
        prepare_plans(tmp_path, plans=[plan(MemorySource("s", sentences(9)))], settings="1" * 64)
    assert all_bytes(tmp_path) == before


def test_a_finished_folder_that_lost_a_file_is_not_used(tmp_path: Path) -> None:
    prepare_texts(tmp_path, s=sentences(60))
    (tmp_path / "s/train-00000.bin").unlink()
    with pytest.raises(CorruptShardError, match=r"train-00000\.bin is missing"):
        prepare_texts(tmp_path, s=sentences(60))


def test_a_killed_run_leaves_no_manifest_and_the_next_one_starts_again(tmp_path: Path) -> None:
    out = tmp_path / "out"
    alive = MemorySource("first", sentences(90))
    dying = DyingSource("second", sentences(400, about="tree"))
    with pytest.raises(Killed):
        prepare_plans(out, plans=[plan(alive), plan(dying)])
    assert not (out / "manifest.json").exists()
    assert list(out.rglob("*.tmp"))
    assert (out / "first/train-00000.bin").exists()
    # Again, with fewer sources: nothing of the killed run may stay.
    manifest = prepare_plans(out, plans=[plan(alive)])
    verify(manifest, out)
    prepare_plans(tmp_path / "clean", plans=[plan(alive)])
    assert all_bytes(out) == all_bytes(tmp_path / "clean")


def test_a_folder_with_other_peoples_files_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "s").mkdir()
    (tmp_path / "s/train-00000.bin").write_bytes(b"precious")
    with pytest.raises(UsageError, match="holds s, which `yxanul prepare` did not write"):
        prepare_texts(tmp_path, s=sentences(60))
    assert (tmp_path / "s/train-00000.bin").read_bytes() == b"precious"


def test_a_disk_that_is_mounted_there_is_an_empty_folder(tmp_path: Path) -> None:
    (tmp_path / "lost+found").mkdir(mode=0)
    prepare_texts(tmp_path, s=sentences(60))
    assert (tmp_path / "lost+found").is_dir()


def test_a_foreign_file_among_the_leftovers_is_never_removed(tmp_path: Path) -> None:
    with pytest.raises(Killed):
        prepare_plans(tmp_path, plans=[plan(DyingSource("s", sentences(60)))])
    (tmp_path / "s/notes.bin").write_bytes(b"precious")
    with pytest.raises(UsageError, match="did not write"):
        prepare_texts(tmp_path, s=sentences(60))
    assert (tmp_path / "s/notes.bin").read_bytes() == b"precious"


@pytest.mark.parametrize("content", ["", "[", '["../x", 3]', '{"s": 1}'])
def test_a_damaged_marker_does_not_lead_out_of_the_folder(tmp_path: Path, content: str) -> None:
    (tmp_path / "x").mkdir()
    (tmp_path / "x/train-00000.bin").write_bytes(b"precious")
    out = tmp_path / "out"
    out.mkdir()
    (out / "preparing.json").write_text(content)
    prepare_texts(out, s=sentences(60))
    assert (tmp_path / "x/train-00000.bin").read_bytes() == b"precious"
    assert not (out / "preparing.json").exists()


def test_two_processes_do_not_prepare_one_folder(tmp_path: Path) -> None:
    with (tmp_path / "preparing.json").open("w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(UsageError, match="Another process is preparing"):
            prepare_texts(tmp_path, s=sentences(60))


@pytest.mark.parametrize(
    ("texts", "fraction", "message"),
    [
        ([], 0.2, "gave no usable document"),
        (["\x00", ""], 0.2, "dropped: 2 empty|dropped: 1 empty, 1 duplicate"),
        (sentences(20), 0.0, "None of the 20 documents of s .* raise it"),
        (sentences(20), 1.0, "All 20 documents of s .* lower it"),
    ],
)
def test_an_empty_side_is_refused_with_advice(
    tmp_path: Path, texts: list[str], fraction: float, message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        prepare_plans(tmp_path, plans=[plan(MemorySource("s", texts), fraction=fraction)])


def test_names_that_clash_or_cannot_be_folders_are_refused(tmp_path: Path) -> None:
    source = MemorySource("s", sentences(60))
    with pytest.raises(UsageError, match=r"s is in stage1_tests and in two.*replay_share"):
        prepare_plans(tmp_path, plans=[plan(source), plan(source, stage="two")])
    with pytest.raises(UsageError, match="cannot be a folder"):
        prepare_plans(tmp_path, plans=[plan(MemorySource("../s", sentences(60)))])
    with pytest.raises(UsageError, match="nothing to prepare"):
        prepare_plans(tmp_path, plans=[])
    (tmp_path / "file").write_text("x")
    with pytest.raises(UsageError, match="is a file"):
        prepare_texts(tmp_path / "file", s=sentences(60))


def test_the_marker_names_the_sources_in_progress(tmp_path: Path) -> None:
    with pytest.raises(Killed):
        prepare_plans(tmp_path, plans=[plan(DyingSource("s", sentences(60)))])
    assert json.loads((tmp_path / "preparing.json").read_text()) == {"s": "stage1_tests"}


class Seen:
    """A watcher that remembers: [source, documents at most, documents done]."""

    def __init__(self) -> None:
        self.sources: list[list] = []

    def begin(self, what: str, *, total: int | None) -> None:
        self.sources.append([what, total, 0])

    def advance(self, count: int) -> None:
        self.sources[-1][2] += count


def test_a_watcher_hears_of_every_document_and_of_the_whole_where_it_is_known(
    tmp_path: Path,
) -> None:
    known, unknown = (MemorySource(name, sentences(60, about=name)) for name in ("known", "open"))
    known.most = 80
    known.texts = [*known.texts, known.texts[0]]  # one is dropped
    seen, lines = Seen(), []
    prepare_sources(
        [plan(known), plan(unknown)],
        tmp_path / "out",
        settings={"stage1_tests": "0" * 64},
        progress=lines.append,
        watcher=seen,
    )
    assert seen.sources == [["known", 80, 61], ["open", None, 60]]
    assert sum(line.endswith("documents held out") for line in lines) == 2
