"""The tokenizer is GPT-2's, checked, and loses nothing."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiktoken_ext.openai_public import r50k_pat_str

from yxanul.data.tokenizer import (
    _PATTERN,
    EOT,
    FILE_SHA256,
    PLACE_VARIABLE,
    VOCABULARY_SHA256,
    Tokenizer,
    _tokenizer,
    _vocabulary_folder,
    encoding_cores,
    load_tokenizer,
)
from yxanul.errors import CorruptDataError, UsageError

TEXTS = st.text(max_size=60) | st.text(alphabet=" \n\tab'st1.😀é<|endoftext|>", max_size=60)


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return load_tokenizer()


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("Hello world", [15496, 995]),
        (" The quick brown fox", [383, 2068, 7586, 21831]),
        ("", []),
        ("    x = 1\n\n\n", [220, 220, 220, 2124, 796, 352, 628, 198]),
        ("it's we'll I'd", [270, 338, 356, 1183, 314, 1549]),
        ("IT'S", [2043, 6, 50]),
        ("😀", [47249, 222]),
        ("日本", [33768, 98, 17312, 105]),
        ("naïve café", [2616, 38776, 40304]),
        ("3.14159", [18, 13, 1415, 19707]),
    ],
)
def test_difficult_strings_have_gpt2s_ids(tokenizer: Tokenizer, text: str, ids: list[int]) -> None:
    assert tokenizer.encode(text) == ids


def test_the_pattern_is_tiktokens_own() -> None:
    assert r50k_pat_str == _PATTERN


@pytest.mark.parametrize("space", [" ", "\n", "\t ", "\u3000", " \x1c"])
def test_a_long_run_of_white_space_is_encoded_as_tiktoken_does_in_one_piece(
    tokenizer: Tokenizer, space: str
) -> None:
    run = space * (600_000 // len(space))
    text = f"a{run}b{run}-{run}"  # as long as tiktoken itself can
    ids = tokenizer._encoding.encode_ordinary(text)
    assert tokenizer.encode(text) == ids
    assert tokenizer.encode_batch(["a", text, ""]) == [tokenizer.encode("a"), ids, []]
    assert [one.tolist() for one in tokenizer.encode_arrays(["", text])] == [[], ids]


def test_over_a_million_characters_of_white_space_are_no_error(tokenizer: Tokenizer) -> None:
    text = f"a{' ' * 1_100_000}b{chr(10) * 1_100_000}c"
    (ids,) = tokenizer.encode_arrays([text])
    assert tokenizer.decode(ids.tolist()) == text


@given(text=TEXTS)
def test_text_survives_a_round_trip(tokenizer: Tokenizer, text: str) -> None:
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    assert EOT not in ids
    assert tokenizer.token_bytes[ids].sum() == len(text.encode())


def test_a_literal_endoftext_is_ordinary_text(tokenizer: Tokenizer) -> None:
    text = "<|endoftext|> a <|endoftext|><|endoftext|>"
    for ids in (tokenizer.encode(text), tokenizer.encode_batch([text])[0]):
        assert EOT not in ids
        assert tokenizer.decode(ids) == text


@given(texts=st.lists(TEXTS, max_size=5))
def test_a_batch_equals_its_texts_one_by_one(tokenizer: Tokenizer, texts: list[str]) -> None:
    assert tokenizer.encode_batch(texts) == [tokenizer.encode(text) for text in texts]


@pytest.mark.parametrize(("usable", "cores"), [(64, 8), (2, 2)])
def test_a_batch_is_encoded_on_as_many_cores_as_is_told(
    tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch, usable: int, cores: int
) -> None:
    monkeypatch.setattr("yxanul.data.tokenizer.usable_cores", lambda: usable)
    threads: list[int] = []

    def encode(texts: list[str], *, num_threads: int) -> list[list[int]]:
        threads.append(num_threads)
        return [[64] for _ in texts]

    monkeypatch.setattr(tokenizer, "_encoding", SimpleNamespace(encode_ordinary_batch=encode))
    assert tokenizer.encode_batch(["a"]) == [[64]]
    assert threads == [cores] == [encoding_cores()]


def test_every_id_has_its_length_in_bytes(tokenizer: Tokenizer) -> None:
    assert tokenizer.token_bytes.shape == (tokenizer.vocab_size,)
    assert tokenizer.token_bytes[EOT] == 0
    assert (tokenizer.token_bytes[:EOT] >= 1).all()
    assert not tokenizer.token_bytes.flags.writeable


def cpu_seconds(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def test_loading_is_quick() -> None:
    # CPU time, since the cores may be shared; the best of three, since the first import warms up.
    # A machine that is slow today parses the same words slowly, which is a third of the work.
    content = (_vocabulary_folder() / "encoder.json").read_text(encoding="utf-8")
    times, yardsticks = [], []
    for _ in range(3):
        _tokenizer.cache_clear()
        yardsticks.append(cpu_seconds(lambda: json.loads(content)))
        times.append(cpu_seconds(load_tokenizer))
    assert min(times) < 15 * min(yardsticks)


def test_another_folder_can_hold_the_vocabulary(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in FILE_SHA256:
        (tmp_path / name).write_bytes((_vocabulary_folder() / name).read_bytes())
    monkeypatch.setenv(PLACE_VARIABLE, str(tmp_path))
    assert load_tokenizer().sha256 == VOCABULARY_SHA256
    changed = tmp_path / "encoder.json"
    changed.write_bytes(changed.read_bytes().replace(b"0", b"1", 1))
    with pytest.raises(CorruptDataError, match=r"encoder\.json is not GPT-2's"):
        load_tokenizer()
    changed.unlink()
    with pytest.raises(UsageError, match=PLACE_VARIABLE):
        load_tokenizer()
