"""Held-out text costs every model what its probabilities say, in its own tokens; of a run of ours
the figures are the gates'."""

import math

import numpy as np
import pytest
import torch

from tests.evaluate.uniform import UniformBytes
from tests.model.tiny import model_with_norms, shape
from yxanul.data.tokenizer import EOT, VOCAB_SIZE, load_tokenizer
from yxanul.errors import NumericsError, UsageError
from yxanul.evaluate.bits_per_byte import bits_per_byte, score_documents
from yxanul.evaluate.models import language_model
from yxanul.evaluate.models.ours import as_language_model
from yxanul.evaluate.perplexity import score_domain
from yxanul.evaluate.summary import domain_figures, pooled

TEXTS = ["The miller sold 12 doors.", "Über den Fluß, 漢字 and more. " * 9, "x"]


@pytest.fixture(scope="module")
def documents() -> list[np.ndarray]:
    encode = load_tokenizer().encode
    return [np.array([EOT, *encode(text)], dtype=np.uint16) for text in TEXTS]


def test_a_model_that_knows_nothing_pays_the_same_for_each_byte(documents) -> None:
    found = score_domain(UniformBytes(), documents, domain="d", seq_len=40)
    assert found.bpb == pytest.approx(math.log2(257))
    assert found.loss == pytest.approx(math.log(257))
    assert found.perplexity == pytest.approx(257)
    assert [one.bytes for one in found.documents] == [len(text.encode()) for text in TEXTS]
    assert [one.tokens for one in found.documents] == [len(text.encode()) for text in TEXTS]
    assert found.bpb_stderr == pytest.approx(0, abs=1e-9)


def test_no_more_logits_are_asked_for_at_once_than_the_memory_is_to_hold(documents, monkeypatch):
    free, bound = UniformBytes(), UniformBytes()
    wanted = score_domain(free, documents, domain="d", seq_len=16)
    monkeypatch.setattr(language_model, "_LOGITS_BYTES", 4 * free.vocabulary * 40)
    assert score_domain(bound, documents, domain="d", seq_len=16) == wanted
    assert bound.most_picks <= 40 < free.most_picks


def test_a_document_that_was_cut_in_a_character_loses_only_that(documents) -> None:
    cut = load_tokenizer().encode("a漢")[:-1]
    found = score_domain(
        UniformBytes(), [np.array([EOT, *cut], dtype=np.uint16)], domain="d", seq_len=40
    )
    assert found.documents[0].bytes == 1


def test_our_own_model_is_read_as_a_gate_reads_it(documents) -> None:
    model = model_with_norms(shape(vocab_size=VOCAB_SIZE))
    found = score_domain(model, documents, domain="d", seq_len=24)
    gate = score_documents(model, documents, token_bytes=load_tokenizer().token_bytes, seq_len=24)
    assert found.documents == gate
    other = as_language_model(model, load_tokenizer(), name="tiny")
    as_any = score_domain(other, documents, domain="d", seq_len=24)
    assert as_any.bpb == pytest.approx(bits_per_byte(gate), rel=1e-6)
    assert as_any.loss == pytest.approx(found.loss, rel=1e-6)


class Read(Exception):  # noqa: N818  (nothing went wrong)
    """The model was asked to read a batch, of this shape."""


def test_our_own_model_is_read_in_a_gates_batches_however_long_the_text() -> None:
    """A batch of other rows may round otherwise; whether it does is the machine's."""
    model = model_with_norms(shape(vocab_size=VOCAB_SIZE))

    def stop(_: object, inputs: tuple[torch.Tensor, ...]) -> None:
        raise Read(*inputs[0].shape)

    model.embed_tokens.register_forward_pre_hook(stop)
    ids = [np.full(25, EOT, dtype=np.uint16)] * 500
    with pytest.raises(Read) as found:
        score_domain(model, ids, domain="d", seq_len=24)
    with pytest.raises(Read) as gate:
        score_documents(model, ids, token_bytes=load_tokenizer().token_bytes, seq_len=24)
    assert found.value.args == gate.value.args


def test_another_model_is_read_in_smaller_batches_whose_logits_it_has_room_for(monkeypatch):
    read = []

    class Watched(UniformBytes):
        def logits(self, inputs, picks):
            read.append(inputs.numel())
            return super().logits(inputs, picks)

    documents = [np.array([EOT, *load_tokenizer().encode("x" * 39)], dtype=np.uint16)] * 300
    score_domain(Watched(), documents, domain="d", seq_len=40)
    assert 2048 < max(read) <= 4096


def test_the_standard_error_is_that_of_resampled_documents() -> None:
    draw = np.random.default_rng(1)
    encode = load_tokenizer().encode
    texts = ["word " * draw.integers(3, 40) + "a b c " * draw.integers(1, 9) for _ in range(60)]
    documents = [np.array([EOT, *encode(text)], dtype=np.uint16) for text in texts]
    model = model_with_norms(shape(vocab_size=VOCAB_SIZE))
    found = score_domain(model, documents, domain="d", seq_len=48)
    bits = np.array([one.nats for one in found.documents]) / math.log(2)
    measure = np.array([one.bytes for one in found.documents])
    picks = draw.integers(0, 60, size=(4000, 60))
    resampled = bits[picks].sum(axis=1) / measure[picks].sum(axis=1)
    assert found.bpb_stderr == pytest.approx(resampled.std(), rel=0.1)


def test_domains_are_pooled_by_their_documents(documents) -> None:
    model = model_with_norms(shape(vocab_size=VOCAB_SIZE))
    parts = {
        name: score_domain(model, part, domain=name, seq_len=24)
        for name, part in (("a", documents[:1]), ("b", documents[1:]))
    }
    whole = score_domain(model, documents, domain="both", seq_len=24)
    assert pooled(parts).bpb == pytest.approx(whole.bpb)
    assert domain_figures(parts["a"])["bpb"].interval is None


def test_a_score_that_is_not_finite_is_an_error_with_its_domain(documents) -> None:
    with pytest.raises(NumericsError, match="likelihood of tales is not a finite number"):
        score_domain(UniformBytes(poison="r"), documents, domain="tales", seq_len=40)
    model = model_with_norms(shape(vocab_size=VOCAB_SIZE))
    with torch.no_grad():
        model.embed_tokens.weight[0] = float("inf")
    with pytest.raises(NumericsError, match="score an older checkpoint"):
        score_domain(model, documents, domain="tales", seq_len=40)


def test_a_model_without_a_first_token_is_refused(documents) -> None:
    model = UniformBytes()
    model.prefix_token = None
    with pytest.raises(UsageError, match="no token to begin a text with"):
        score_domain(model, documents, domain="d", seq_len=40)
