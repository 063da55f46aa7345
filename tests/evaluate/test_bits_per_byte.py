"""Bits per byte: every target once, no document leaning on another, windows of any length."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.model.tiny import VOCAB, model_with_norms, shape
from yxanul.errors import UsageError
from yxanul.evaluate.bits_per_byte import DocumentScore, bits_per_byte, score_documents

TOKEN_BYTES = (np.arange(VOCAB) % 7 + 1).astype(np.uint8)
MODEL = model_with_norms(shape(max_position_embeddings=128))


def documents(lengths, *, seed: int = 0) -> list[np.ndarray]:
    """Random documents of so many tokens after their beginning."""
    numbers = np.random.RandomState(seed)
    return [numbers.randint(0, VOCAB, size=n + 1).astype(np.uint16) for n in lengths]


def score(found, *, seq_len: int, batch_tokens: int = 4096, model=MODEL) -> list[DocumentScore]:
    return score_documents(
        model, found, token_bytes=TOKEN_BYTES, seq_len=seq_len, batch_tokens=batch_tokens
    )


def nats(found, **options) -> list[float]:
    return [one.nats for one in score(found, **options)]


def uniform_model():
    """A model that gives every token the same chance."""
    model = model_with_norms(shape(max_position_embeddings=128))
    with torch.no_grad():
        model.embed_tokens.weight.zero_()
    return model


UNIFORM = uniform_model()


@settings(max_examples=30)
@given(
    st.lists(st.integers(0, 120), min_size=1, max_size=6),
    st.integers(1, 100),
    st.sampled_from([1, 50, 4096]),
)
def test_every_target_is_scored_once_whatever_the_windows(lengths, seq_len, batch_tokens):
    """A uniform guess costs ln(vocab) per target, so the sum counts the targets."""
    found = score(documents(lengths), seq_len=seq_len, batch_tokens=batch_tokens, model=UNIFORM)
    assert [one.tokens for one in found] == lengths
    assert [one.nats for one in found] == pytest.approx([n * math.log(VOCAB) for n in lengths])


def test_a_uniform_model_needs_log2_vocab_bits_per_token():
    texts = documents([40, 7, 90])
    size = sum(int(TOKEN_BYTES[ids[1:]].sum()) for ids in texts)
    wanted = math.log2(VOCAB) * (40 + 7 + 90) / size
    assert bits_per_byte(score(texts, seq_len=32, model=UNIFORM)) == pytest.approx(wanted)


def test_the_first_token_is_context_and_neither_scored_nor_counted():
    texts = documents([5])
    one = score(texts, seq_len=16)[0]
    assert one.tokens == 5
    assert one.bytes == int(TOKEN_BYTES[texts[0][1:]].sum())
    ids = torch.from_numpy(texts[0].astype(np.int64))[None]
    assert one.nats == pytest.approx(MODEL.nats(ids[:, :-1], ids[:, 1:]).double().sum().item())


def test_a_document_that_fits_is_not_windowed():
    texts = documents([30, 12, 31])
    assert nats(texts, seq_len=31) == pytest.approx(nats(texts, seq_len=120), rel=1e-6)


@pytest.mark.parametrize("seq_len", [8, 9])
def test_later_windows_have_the_previous_half_as_context(seq_len):
    ids = documents([20])[0]
    wanted = 0.0
    for target in range(1, 21):
        # Windows after the first score half of seq_len, or what is left at the end.
        half = seq_len // 2
        blocks = max(0, math.ceil((target - seq_len) / half))
        end = min(seq_len + blocks * half, 20)
        row = torch.from_numpy(ids[end - seq_len : end + 1].astype(np.int64))[None]
        at = target - 1 - (end - seq_len)
        wanted += MODEL.nats(row[:, :-1], row[:, 1:])[0, at].item()
    assert nats([ids], seq_len=seq_len)[0] == pytest.approx(wanted, rel=1e-6)


@settings(max_examples=15)
@given(st.permutations(range(5)), st.sampled_from([1, 64, 4096]))
def test_other_documents_in_the_batch_do_not_matter(order, batch_tokens):
    texts = documents([3, 40, 17, 40, 90])
    alone = [nats([text], seq_len=24)[0] for text in texts]
    together = nats([texts[i] for i in order], seq_len=24, batch_tokens=batch_tokens)
    assert together == pytest.approx([alone[i] for i in order], rel=1e-6)


def test_scoring_changes_no_weight_and_asks_for_no_gradient():
    before = {name: value.clone() for name, value in MODEL.state_dict().items()}
    score(documents([50]), seq_len=16)
    assert all(torch.equal(value, before[name]) for name, value in MODEL.state_dict().items())
    assert all(parameter.grad is None for parameter in MODEL.parameters())


@pytest.mark.parametrize("texts", [[], documents([0])], ids=["no document", "an empty document"])
def test_nothing_to_score_is_said_in_a_sentence(texts):
    with pytest.raises(UsageError, match="no held-out text"):
        bits_per_byte(score(texts, seq_len=16))


def test_a_sum_weighs_documents_by_their_bytes():
    scores = [DocumentScore(nats=10.0, bytes=5, tokens=3), DocumentScore(2.0, 15, 4)]
    assert bits_per_byte(scores) == pytest.approx(12 / math.log(2) / 20)
