"""Generation: the cache changes no number, sampling is what it says, nothing outside is touched."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import RepetitionPenaltyLogitsProcessor

from tests.model.test_parity import theirs_like
from tests.model.tiny import VOCAB, difference, gradients, model_with_norms, rows, shape
from yxanul.data.tokenizer import EOT
from yxanul.errors import NumericsError, UsageError
from yxanul.model.cache import KeyValueCache
from yxanul.model.decoding import Decoder
from yxanul.model.generation import (
    END_OF_TEXT,
    GenerationOptions,
    candidates,
    decoding_copy,
    generate,
    penalised,
    sample,
)

GROUPS = [4, 2, 1]
PROMPT = [5, 17, 3]
# Ids up to the last of the tiny vocabulary may be drawn; the last one ends the text.
LAST = VOCAB - 1


def cache_for(model, *, batch: int = 1, length: int = 64) -> KeyValueCache:
    return KeyValueCache(model.config.num_hidden_layers, rows=batch, columns=length)


def cached_logits(model, tokens, *, pieces: list[int]):
    """Logits of every position, read piece by piece through one cache."""
    decoder, cache = Decoder(model), cache_for(model, batch=len(tokens))
    parts = [decoder.hidden_states(piece, cache) for piece in tokens.split(pieces, dim=1)]
    return decoder.logits(torch.cat(parts, dim=1))


@pytest.mark.parametrize("kv_heads", GROUPS)
@pytest.mark.parametrize("pieces", [[1] * 40, [40], [17, 23], [25] + [1] * 15], ids=len)
def test_the_cache_changes_no_logit(kv_heads, pieces):
    model = model_with_norms(shape(num_key_value_heads=kv_heads), attention="plain")
    tokens, _ = rows(3, 40)
    with torch.no_grad():
        wanted = model.logits(model.hidden_states(tokens))
    found = cached_logits(model, tokens, pieces=pieces)
    for position in range(40):
        assert difference(found[:, position], wanted[:, position]) < 1e-5, position


@pytest.mark.parametrize("kv_heads", GROUPS)
def test_the_cache_is_close_in_bf16(kv_heads):
    config = shape(num_key_value_heads=kv_heads)
    model = model_with_norms(config, attention="plain", compute_dtype=torch.bfloat16)
    tokens, _ = rows(2, 40)
    with torch.no_grad():
        wanted = model.logits(model.hidden_states(tokens))
    assert difference(cached_logits(model, tokens, pieces=[20] + [1] * 20), wanted) < 3e-2


@pytest.mark.parametrize("kv_heads", GROUPS)
def test_the_cache_holds_the_heads_that_keys_have(kv_heads):
    model = model_with_norms(shape(num_key_value_heads=kv_heads))
    cache = cache_for(model, batch=2, length=9)
    logits = Decoder(model).next_logits(rows(2, 5)[0], cache)
    assert {layer.keys.shape for layer in cache.layers} == {(2, kv_heads, 9, 16)}
    assert logits.shape == (2, VOCAB)
    assert cache.used == 5


def test_a_prompt_of_any_length_is_read_whole():
    model = model_with_norms(shape(max_position_embeddings=2500, num_key_value_heads=2))
    tokens = rows(1, 2300)[0]
    with torch.no_grad():
        wanted = model.logits(model.hidden_states(tokens))[0, -1].argmax()
    options = GenerationOptions(temperature=0, max_new_tokens=1, end_token=LAST)
    assert generate(model, tokens[0].tolist(), options=options).tokens == [int(wanted)]


@pytest.mark.parametrize("kv_heads", GROUPS)
def test_greedy_text_equals_that_of_transformers(kv_heads):
    ours = model_with_norms(shape(num_key_value_heads=kv_heads, initializer_range=0.3))
    theirs = theirs_like(ours).eval()
    theirs.generation_config.eos_token_id = LAST
    for seed in range(3):
        prompt = rows(1, 6, seed=seed)[0]
        wanted = theirs.generate(
            prompt,
            attention_mask=torch.ones_like(prompt),
            do_sample=False,
            max_new_tokens=40,
            pad_token_id=0,
        )[0, 6:].tolist()
        options = GenerationOptions(temperature=0, max_new_tokens=40, end_token=LAST)
        found = generate(ours, prompt[0].tolist(), options=options)
        assert len(set(wanted)) > 3, "a text that varies"
        assert found.tokens + [LAST] * (found.stop_reason == "end_of_text") == wanted


@pytest.mark.parametrize("kv_heads", GROUPS)
@pytest.mark.parametrize("attention", ["plain", "sdpa"])
def test_a_decoder_without_a_cache_gives_the_models_logits(kv_heads, attention):
    model = model_with_norms(shape(num_key_value_heads=kv_heads), attention=attention)
    decoder, tokens = Decoder(model), rows(3, 30)[0]
    with torch.no_grad():
        wanted = model.logits(model.hidden_states(tokens))
    assert difference(decoder.logits(decoder.hidden_states(tokens)), wanted) < 1e-5


def test_a_decoder_is_made_once_and_leaves_the_model_alone():
    model = model_with_norms(shape())
    before = {name: value.clone() for name, value in model.state_dict().items()}
    decoder = decoding_copy(model)
    assert decoding_copy(decoder) is decoder
    assert not decoder.logits(decoder.hidden_states(rows(1, 3)[0])).requires_grad
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


# What generation leaves alone


# torch.compile warns about torch's own code
@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("how", ["off", "block", "model"])
def test_weights_gradients_and_torchs_random_state_are_untouched(dtype, how):
    model = model_with_norms(shape(), compute_dtype=dtype, attention="plain")
    model(*rows(2, 20)).backward()
    model.compile_training(how)
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    pulls = gradients(model)
    state = torch.get_rng_state()
    generate(model, PROMPT, options=GenerationOptions(end_token=LAST, temperature=1.0))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.is_grad_enabled()
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())
    assert all(torch.equal(value, pulls[name]) for name, value in gradients(model).items())
    assert all(p.dtype == torch.float32 and p.requires_grad for p in model.parameters())


def test_the_same_seed_writes_the_same_whatever_else_draws():
    model = model_with_norms(shape())

    def written(seed: int) -> list[int]:
        torch.rand(seed + 3)
        options = GenerationOptions(seed=seed, end_token=LAST, max_new_tokens=30)
        return generate(model, PROMPT, options=options).tokens

    assert written(7) == written(7)
    assert written(7) != written(8)


# Where it ends


def test_it_ends_at_the_end_token_which_is_not_part_of_the_text():
    model = model_with_norms(shape())
    options = GenerationOptions(temperature=0, end_token=LAST, max_new_tokens=8)
    first = generate(model, PROMPT, options=options)
    assert (len(first.tokens), first.stop_reason) == (8, "max_new_tokens")
    # A longer row of the head in the direction of the first token: the end is now likelier.
    with torch.no_grad():
        model.embed_tokens.weight[LAST] = 50 * model.embed_tokens.weight[first.tokens[0]]
    ended = generate(model, PROMPT, options=options)
    assert ended.stop_reason == "end_of_text"
    assert LAST not in ended.tokens
    assert ended.tokens_per_s > 0


def test_it_ends_where_the_positions_end():
    model = model_with_norms(shape(max_position_embeddings=12))
    options = GenerationOptions(temperature=0, end_token=LAST)
    done = generate(model, PROMPT, options=options)
    assert (len(done.tokens), done.stop_reason) == (9, "context")
    exact = GenerationOptions(temperature=0, end_token=LAST, max_new_tokens=9)
    assert generate(model, PROMPT, options=exact).stop_reason == "max_new_tokens"
    assert len(generate(model, list(range(11)), options=options).tokens) == 1


def test_it_ends_when_the_caller_has_enough():
    seen: list[int] = []

    def enough(token: int) -> bool:
        seen.append(token)
        return len(seen) == 4

    options = GenerationOptions(temperature=0, end_token=LAST)
    done = generate(model_with_norms(shape()), PROMPT, options=options, is_finished=enough)
    assert (done.tokens, done.stop_reason) == (seen, "stop_text")
    assert len(seen) == 4


@pytest.mark.parametrize("tokens", [64, 65, 1000])
def test_a_prompt_that_fills_the_context_is_refused_with_both_numbers(tokens):
    with pytest.raises(UsageError, match=rf"{tokens:,} tokens .* 64 positions"):
        generate(model_with_norms(shape()), [1] * tokens, options=GenerationOptions())


@pytest.mark.parametrize(
    "wrong",
    [
        {"temperature": -0.1},
        {"temperature": math.nan},
        {"temperature": math.inf},
        {"top_k": 0},
        {"top_k": -3},
        {"top_p": 0.0},
        {"top_p": 1.01},
        {"top_p": math.nan},
        {"repetition_penalty": 0.0},
        {"repetition_penalty": -1.0},
        {"repetition_penalty": math.nan},
        {"repetition_penalty": math.inf},
        {"max_new_tokens": 0},
        {"seed": -1},
        {"seed": 2**63},
    ],
    ids=str,
)
def test_an_impossible_option_is_named(wrong):
    ((name, value),) = wrong.items()
    with pytest.raises(UsageError, match=f"{name} is {value}"):
        GenerationOptions(**wrong)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_weights_that_are_not_finite_are_an_error_of_numerics(temperature):
    model = model_with_norms(shape())
    with torch.no_grad():
        model.norm.weight[3] = math.nan
    with pytest.raises(NumericsError, match="not finite"):
        generate(model, PROMPT, options=GenerationOptions(temperature=temperature, end_token=LAST))


# What is sampled

LOGITS = st.lists(st.floats(-30, 30), min_size=1, max_size=40).map(
    lambda values: torch.tensor(values, dtype=torch.float64)
)


def test_the_end_of_text_is_the_tokenizers():
    assert END_OF_TEXT == EOT == GenerationOptions().end_token


@given(
    logits=LOGITS,
    temperature=st.floats(0.05, 5),
    top_k=st.none() | st.integers(1, 45),
    top_p=st.floats(0.01, 1),
)
def test_candidates_are_the_nucleus_of_the_likeliest(logits, temperature, top_k, top_p):
    options = GenerationOptions(temperature=temperature, top_k=top_k, top_p=top_p)
    ids, probabilities = candidates(logits, options)
    assert ids.tolist() == sorted(set(ids.tolist()))
    assert len(ids) >= 1
    assert probabilities.sum().item() == pytest.approx(1)
    kept = min(top_k or len(logits), len(logits))
    assert len(ids) <= kept
    # By the definition, in the long way: sort, cut at top_k, cut where top_p is reached.
    ranked = (logits / temperature).sort(descending=True).values[:kept].softmax(0)
    before = ranked.cumsum(0) - ranked
    assert (before < top_p - 1e-9).sum() <= len(ids) <= (before < top_p + 1e-9).sum()
    wanted = ranked[: len(ids)] / ranked[: len(ids)].sum()
    torch.testing.assert_close(probabilities.sort(descending=True).values, wanted)
    # No id that was left out is likelier than one that was kept.
    out = torch.ones(len(logits), dtype=torch.bool)
    out[ids] = False
    if out.any():
        assert logits[out].max() <= logits[ids].min()


@given(logits=LOGITS)
def test_top_k_1_a_tiny_top_p_and_temperature_0_take_the_likeliest(logits):
    random = torch.Generator().manual_seed(0)
    for changes in ({"temperature": 0.0}, {"top_k": 1}, {"top_p": 1e-12}, {"temperature": 5e-324}):
        options = GenerationOptions(end_token=len(logits) - 1, **changes)
        chosen = sample(logits, options=options, random=random)
        assert logits[chosen] == logits.max(), changes


def test_logits_that_are_rounded_otherwise_draw_the_same():
    random = torch.Generator().manual_seed(2)
    logits = torch.randn(50_000, generator=random)
    noise = 1e-6 * torch.randn(50_000, generator=random)
    for changes in ({}, {"top_p": 1.0}, {"top_k": 40_000, "top_p": 0.5}):
        options = GenerationOptions(temperature=1.0, end_token=49_999, **changes)
        drawn = [
            [sample(one, options=options, random=own) for _ in range(30)]
            for one in (logits, logits + noise)
            for own in [torch.Generator().manual_seed(1)]
        ]
        assert drawn[0] == drawn[1], changes


def test_padded_rows_are_never_sampled():
    logits = torch.zeros(60)
    logits[50:] = 100.0
    random = torch.Generator().manual_seed(0)
    for changes in ({}, {"top_p": 1.0}, {"top_k": 55}, {"temperature": 0.0}):
        options = GenerationOptions(end_token=49, **changes)
        drawn = {sample(logits, options=options, random=random) for _ in range(200)}
        assert max(drawn) <= 49, changes


@pytest.mark.parametrize("top_k", [None, 4])
@pytest.mark.parametrize("top_p", [1.0, 0.8])
def test_frequencies_follow_the_probabilities(top_k, top_p):
    draws = 4000
    logits = torch.tensor([2.0, -1.0, 1.5, 0.0, 1.0, -3.0, 0.5])
    options = GenerationOptions(temperature=0.7, top_k=top_k, top_p=top_p, end_token=6)
    random = torch.Generator().manual_seed(1)
    counts = torch.zeros(7, dtype=torch.float64)
    for _ in range(draws):
        counts[sample(logits, options=options, random=random)] += 1
    ids, probabilities = candidates(logits.double(), options)
    expected = torch.zeros(7, dtype=torch.float64).index_put((ids,), probabilities * draws)
    assert counts[expected == 0].sum() == 0
    kept = expected > 0
    chi_square = ((counts - expected)[kept].square() / expected[kept]).sum().item()
    # Six degrees of freedom at most: 30 is passed by chance once in 25,000 seeds, and the seed is
    # fixed.
    assert chi_square < 30
    uniform = torch.full_like(counts, draws / 7)
    assert ((counts - uniform).square() / uniform).sum() > 300, "the measure tells laws apart"


# The repetition penalty


@given(
    logits=st.lists(st.floats(-30, 30, width=32), min_size=40, max_size=40),
    seen=st.lists(st.integers(0, 39), min_size=1, max_size=60),
    penalty=st.floats(0.1, 8),
)
def test_the_penalty_is_that_of_transformers(logits, seen, penalty):
    scores = torch.tensor(logits, dtype=torch.float64)
    processor = RepetitionPenaltyLogitsProcessor(penalty)
    wanted = processor(torch.tensor([seen]), scores[None].clone())[0]
    before = scores.clone()
    assert torch.equal(penalised(scores, seen, penalty=penalty), wanted)
    assert torch.equal(scores, before), "what was given is left alone"


def test_a_penalty_of_1_and_ids_beyond_the_logits_change_nothing():
    logits = torch.tensor([1.0, -2.0, 3.0])
    assert torch.equal(penalised(logits, [0, 1, 2], penalty=1.0), logits)
    assert torch.equal(penalised(logits, [3, 99], penalty=5.0), logits)
    assert torch.equal(penalised(logits, [], penalty=5.0), logits)


@pytest.mark.parametrize("penalty", [1.3, 0.8])
def test_penalised_greedy_text_equals_that_of_transformers(penalty):
    ours = model_with_norms(shape(initializer_range=0.3))
    theirs = theirs_like(ours).eval()
    theirs.generation_config.eos_token_id = LAST
    prompt = rows(1, 6)[0]
    wanted = theirs.generate(
        prompt,
        attention_mask=torch.ones_like(prompt),
        do_sample=False,
        max_new_tokens=40,
        pad_token_id=0,
        repetition_penalty=penalty,
    )[0, 6:].tolist()
    options = GenerationOptions(
        temperature=0, max_new_tokens=40, end_token=LAST, repetition_penalty=penalty
    )
    found = generate(ours, prompt[0].tolist(), options=options)
    assert found.tokens + [LAST] * (found.stop_reason == "end_of_text") == wanted
    plain = GenerationOptions(temperature=0, max_new_tokens=40, end_token=LAST)
    assert generate(ours, prompt[0].tolist(), options=plain).tokens != found.tokens


def test_a_penalty_that_overflows_is_an_error_of_numerics():
    options = GenerationOptions(repetition_penalty=1e-308, end_token=2)
    random = torch.Generator().manual_seed(0)
    with pytest.raises(NumericsError, match="not finite"):
        sample(torch.tensor([300.0, 0.0, 1.0]), options=options, random=random, seen=[0])
    options = GenerationOptions(repetition_penalty=1e308, end_token=2)
    assert sample(torch.tensor([-3.0, -1e9, 1e9]), options=options, random=random, seen=[0, 1]) == 2
