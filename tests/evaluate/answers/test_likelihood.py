"""Likelihoods: batches, shared contexts and windows change no number; bad input is told."""

import math

import pytest
import torch

from tests.evaluate.pretrained import KINDS, POSITIONS, byte_tokenizer, phrase, random_model
from tests.evaluate.uniform import UniformBytes
from tests.model.tiny import model_with_norms, shape
from yxanul.data.tokenizer import load_tokenizer
from yxanul.errors import NumericsError, UsageError
from yxanul.evaluate.answers.likelihood import likelihoods
from yxanul.evaluate.answers.pairs import encode_pairs
from yxanul.evaluate.answers.requests import Continuations
from yxanul.evaluate.models import language_model as language_models
from yxanul.evaluate.models.huggingface import wrap_pretrained
from yxanul.evaluate.models.ours import as_language_model

CASES = ["ours", *KINDS]


def language_model(case: str):
    if case == "ours":
        config = shape(vocab_size=50257, initializer_range=0.3, max_position_embeddings=POSITIONS)
        model = model_with_norms(config, attention="plain")
        return as_language_model(model, load_tokenizer(), name="ours")
    return wrap_pretrained(random_model(case), byte_tokenizer(), name=case)


def requests() -> list[Continuations]:
    """Contexts of many lengths, too long ones, alone and with several continuations."""
    found = [
        Continuations(
            phrase(3 * seed, seed=seed),
            tuple(f" {phrase(1 + (seed + n) % 5, seed=n)}" for n in range(1 + seed % 4)),
        )
        for seed in range(12)
    ]
    # One token each after a shared context, a context of spaces, none, and one that is repeated.
    found += [Continuations("q", (" a", " b", " c")), Continuations("  ", ("x", "y y"))]
    return [*found, Continuations("", ("the cat", "s")), found[5]]


def by_hand(model, context: list[int], targets: list[int]) -> tuple[float, bool]:
    """The definition: one row, all logits, cut off on the left, no cache."""
    ids = (context + targets)[-(model.max_length + 1) :]
    tokens = torch.tensor([ids[:-1]])
    logits = torch.cat(list(model.logits(tokens, torch.arange(len(ids) - 1)))).double()
    scored = logits[-len(targets) :].log_softmax(1)
    wanted = torch.tensor(targets)
    nats = -scored.gather(1, wanted[:, None]).sum().item()
    return nats, bool((scored.argmax(1) == wanted).all())


@pytest.mark.parametrize("batch_tokens", [1, 150, 4096])
@pytest.mark.parametrize("case", CASES)
def test_every_number_is_that_of_one_row_alone(case, batch_tokens):
    model, asked = language_model(case), requests()
    found = likelihoods(model, asked, batch_tokens=batch_tokens)
    assert [len(one) for one in found] == [len(request.texts) for request in asked]
    flat = [one for many in found for one in many]
    for pair, one in zip(encode_pairs(model, asked), flat, strict=True):
        nats, is_greedy = by_hand(model, list(pair.context), list(pair.targets))
        assert one.nats == pytest.approx(nats, abs=1e-4)
        assert (one.tokens, one.is_greedy) == (len(pair.targets), is_greedy)


def test_the_head_of_transformers_is_applied_as_the_model_does_it():
    # by_hand goes through the hook too: here the reference is the model's own whole forward pass.
    for case in KINDS:
        model = language_model(case)
        tokens = torch.randint(0, 270, (3, 20), generator=torch.Generator().manual_seed(1))
        with torch.no_grad():
            wanted = model.model(tokens).logits.flatten(0, 1)
        picks = torch.tensor([0, 7, 19, 20, 41, 59])
        (found,) = model.logits(tokens, picks)
        torch.testing.assert_close(found, wanted[picks])
        assert not model.model.get_output_embeddings()._forward_pre_hooks


def test_the_likeliest_tokens_are_greedy():
    model = language_model("ours")
    context = model.encode(["The cat"])[0]
    best = by_hand_greedy(model, context)
    texts = tuple(model.decode([token]) for token in (best, best + 1))
    likely, other = likelihoods(model, [Continuations("The cat", texts)])[0]
    assert likely.is_greedy
    assert not other.is_greedy
    assert likely.nats < other.nats


def by_hand_greedy(model, context: list[int]) -> int:
    ids = [*model.opening, *context]
    (logits,) = model.logits(torch.tensor([ids]), torch.tensor([len(ids) - 1]))
    return int(logits[0].argmax())


def test_a_continuation_as_long_as_the_window_is_scored_in_one_piece():
    model = language_model("Llama")
    (whole,) = likelihoods(model, [Continuations("q", ("x" * POSITIONS,))])[0]
    ids = model.encode(["q" + "x" * POSITIONS])[0]
    nats, _ = by_hand(model, ids[:1], ids[1:])
    assert whole.tokens == POSITIONS
    assert whole.nats == pytest.approx(nats, abs=1e-4)


def test_a_longer_one_is_scored_in_windows_every_token_once():
    model, half = language_model("Llama"), POSITIONS // 2
    text = phrase(80, seed=4)
    (one,) = likelihoods(model, [Continuations("q", (text,))])[0]
    ids = model.encode(["q" + text])[0]
    nats, _ = by_hand(model, ids[:1], ids[1 : POSITIONS + 1])
    for begin in range(POSITIONS + 1, len(ids), half):
        end = min(begin + half, len(ids))
        nats += by_hand(model, ids[:begin], ids[begin:end])[0]
    assert one.tokens == len(ids) - 1 > 2 * POSITIONS
    assert one.nats == pytest.approx(nats, abs=1e-3)


def test_bf16_is_close_to_fp32():
    config = shape(vocab_size=50257, initializer_range=0.3)
    tokenizer, found = load_tokenizer(), []
    for dtype in (torch.float32, torch.bfloat16):
        model = model_with_norms(config, attention="plain", compute_dtype=dtype)
        lm = as_language_model(model, tokenizer, name="ours")
        found.append([one for many in likelihoods(lm, requests()) for one in many])
    for exact, rounded in zip(*found, strict=True):
        assert rounded.nats == pytest.approx(exact.nats, rel=0.05)


def test_rows_of_the_head_beyond_the_vocabulary_count_for_nothing_in_ours():
    config = shape(vocab_size=50304, initializer_range=0.3)
    padded = model_with_norms(config, attention="plain")
    cut = model_with_norms(shape(vocab_size=50257), attention="plain")
    tensors = dict(padded.state_dict())
    tensors["embed_tokens.weight"] = tensors["embed_tokens.weight"][:50257]
    cut.load_state_dict(tensors)
    tokenizer = load_tokenizer()
    wanted = likelihoods(as_language_model(cut, tokenizer, name="cut"), requests())
    found = likelihoods(as_language_model(padded, tokenizer, name="padded"), requests())
    for one, other in zip(wanted, found, strict=True):
        assert [x.nats for x in one] == pytest.approx([x.nats for x in other], abs=1e-4)


def test_nothing_asked_is_nothing_found():
    model = language_model("ours")
    assert likelihoods(model, []) == []
    assert likelihoods(model, [Continuations("The cat", ())]) == [()]


@pytest.mark.parametrize(("context", "text"), [("The", ""), ("", ""), ("q", "a")])
def test_a_continuation_without_a_token_is_named(context, text):
    # "qa" is one token of GPT-2: of its own the "a" has none.
    with pytest.raises(UsageError, match=f"no token of its own .* '{text}' after '{context}'"):
        likelihoods(language_model("ours"), [Continuations(context, (text,))])


def test_a_text_without_context_needs_a_token_to_begin_with():
    tokenizer = byte_tokenizer()
    tokenizer.bos_token = tokenizer.eos_token = None
    model = wrap_pretrained(random_model("Llama"), tokenizer, name="bare")
    with pytest.raises(UsageError, match="bare has no token for the beginning"):
        likelihoods(model, [Continuations("", ("a",))])


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_logits_that_are_no_numbers_are_never_a_score(value):
    config = shape(vocab_size=50257)
    model = model_with_norms(config, attention="plain")
    with torch.no_grad():
        model.embed_tokens.weight[464, 0] = value
    lm = as_language_model(model, load_tokenizer(), name="broken")
    assert lm.encode(["The"]) == [[464]]
    with pytest.raises(NumericsError, match="broken"):
        likelihoods(lm, [Continuations("The", (" cat",))])


def test_no_more_logits_are_asked_for_at_once_than_the_memory_is_to_hold(monkeypatch):
    asked = [Continuations(f"k{n:02d}", ("a" * 10, "b" * 10)[: 1 + n % 2]) for n in range(40)]
    free = UniformBytes()
    wanted = likelihoods(free, asked)
    monkeypatch.setattr(language_models, "_LOGITS_BYTES", 4 * free.vocabulary * 45)
    bound = UniformBytes()
    assert likelihoods(bound, asked) == wanted
    assert free.most_picks > 100
    assert 10 < bound.most_picks <= 45
    # What does not fit by itself is scored all the same.
    (long,) = likelihoods(bound, [Continuations("k", ("c" * 60,))])
    assert (long[0].tokens, bound.most_picks) == (60, 60)
