"""Parameters, FLOPs and epochs equal what can be derived another way."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from yxanul.config.load import load_config
from yxanul.config.schema import ModelConfig
from yxanul.plan.budget import (
    effective_epochs,
    marginal_value,
    phase_tokens,
    stage_budget,
    tokens_for_epochs,
)
from yxanul.plan.flops import flops_per_token, recomputed_flops_per_token, stage_flops
from yxanul.plan.parameters import parameter_count

CONFIGS = Path(__file__).parents[2] / "configs"

shapes = st.builds(
    lambda keys, groups, half, **sizes: ModelConfig(
        name="any",
        num_attention_heads=keys * groups,
        num_key_value_heads=keys,
        head_dim=2 * half,
        max_position_embeddings=64,
        **sizes,
    ),
    keys=st.integers(1, 3),
    groups=st.integers(1, 3),
    half=st.integers(1, 8),
    hidden_size=st.integers(1, 40),
    num_hidden_layers=st.integers(1, 3),
    intermediate_size=st.integers(1, 50),
    vocab_size=st.integers(1, 300),
)


def matrices(model):
    """Every matrix product of one token as (rows, columns): what a person would list by hand."""
    width, inner = model.hidden_size, model.intermediate_size
    queries = model.num_attention_heads * model.head_dim
    keys = model.num_key_value_heads * model.head_dim
    layer = [(width, queries), (width, keys), (width, keys), (queries, width)]
    layer += [(width, inner), (width, inner), (inner, width)]
    return layer * model.num_hidden_layers + [(width, model.vocab_size)]


@pytest.mark.parametrize(
    ("name", "total"),
    [
        ("flagship", 302_882_304),
        ("28x768-head128", 302_882_304),
        ("28x768-6080", 496.9e6),
        ("20x896-3584", 302.0e6),
        ("16x1024-3712", 301.1e6),
        ("12x1536-2048", 303.7e6),
    ],
)
def test_the_shapes_have_their_sizes(name, total):
    count = parameter_count(load_config(CONFIGS, model=name).model)
    if isinstance(total, int):
        assert count.total == total
    assert count.total == pytest.approx(total, abs=0.05e6)


@given(shapes)
def test_parameters_are_the_matrices_and_the_norms(model):
    count = parameter_count(model)
    norms = (2 * model.num_hidden_layers + 1) * model.hidden_size
    assert count.total == sum(a * b for a, b in matrices(model)) + norms


@given(shapes, st.integers(1, 64))
def test_flops_are_six_per_product_and_the_squares_of_attention(model, seq_len):
    heads, layers = model.num_attention_heads, model.num_hidden_layers
    products = sum(6 * a * b for a, b in matrices(model))
    square = layers * heads * 2 * (2 * seq_len * seq_len * model.head_dim) * 3 // seq_len
    assert flops_per_token(model, seq_len, convention="palm") == products + square
    assert flops_per_token(model, seq_len, convention="causal") == products + square // 2


@pytest.mark.parametrize(
    ("seq_len", "palm", "causal"),
    [(512, 1.949, 1.883), (1024, 2.081, 1.949), (2048, 2.346, 2.081), (4096, 2.874, 2.346)],
)
def test_the_flagships_flops_are_the_published_table(seq_len, palm, causal):
    model = load_config(CONFIGS).model
    assert flops_per_token(model, seq_len, convention="palm") / 1e9 == pytest.approx(palm, abs=6e-4)
    assert flops_per_token(model, seq_len, convention="causal") / 1e9 == pytest.approx(
        causal, abs=6e-4
    )


# (heads, key heads, head_dim, hidden, FFN, layers, vocabulary), (rows, seq_len), tokens per chunk
COUNTED = {
    "many heads": ((4, 4, 16, 64, 96, 3, 211), (2, 64), 1024),
    "grouped queries": ((4, 2, 16, 64, 96, 3, 211), (2, 64), 1024),
    "one key head, heads wider than the stream": ((3, 1, 24, 40, 56, 2, 307), (3, 50), 1024),
    "heads narrower than the stream, the loss in chunks": ((2, 2, 8, 48, 64, 2, 509), (2, 96), 40),
    "one long row": ((2, 1, 32, 32, 128, 1, 100), (1, 384), 100),
}


def counted_flops(kind, **options):
    """Return a shape, its sequence length, its tokens, and what torch counts for one real step."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from yxanul.model.transformer import Transformer

    sizes, (rows, seq_len), chunk = COUNTED[kind]
    heads, keys, head_dim, hidden, inner, layers, vocabulary = sizes
    shape = ModelConfig(
        name="small",
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=keys,
        head_dim=head_dim,
        intermediate_size=inner,
        vocab_size=vocabulary,
        max_position_embeddings=512,
    )
    model = Transformer.initialised(
        shape, seed=1, attention="plain", loss_chunk_tokens=chunk, **options
    )
    assert sum(p.numel() for p in model.parameters()) == parameter_count(shape).total
    tokens = torch.randint(vocabulary, (rows, seq_len), generator=torch.Generator().manual_seed(0))
    with FlopCounterMode(display=False) as counter:
        model(tokens, tokens).backward()
    return shape, seq_len, tokens.numel(), counter.get_total_flops()


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("kind", COUNTED)
def test_torch_counts_the_same_parameters_and_flops_in_the_real_model_and_loss(kind, precision):
    import torch

    shape, seq_len, tokens, counted = counted_flops(kind, compute_dtype=getattr(torch, precision))
    # Rows of zeros that the loss adds to the head are no work of the model's. They are in two of
    # its products, and in bf16 in that of its gradient.
    products = 2 if precision == "float32" else 3
    padding = 2 * products * shape.hidden_size * (-shape.vocab_size % 128)
    assert counted == tokens * (padding + flops_per_token(shape, seq_len, convention="palm"))


@pytest.mark.parametrize("kind", COUNTED)
def test_torch_counts_the_same_work_done_again_by_gradient_checkpointing(kind):
    shape, seq_len, tokens, once = counted_flops(kind)
    layers = shape.num_hidden_layers
    for blocks in (1, layers):
        *_, again = counted_flops(kind, checkpointed_blocks=blocks)
        wanted = tokens * recomputed_flops_per_token(shape, seq_len) * blocks / layers
        assert again - once == pytest.approx(wanted)


@pytest.mark.parametrize(
    ("epochs", "worth"),
    [(1, 1), (2, 1.97), (4, 3.73), (8, 6.62), (15, 10.19), (20, 11.91), (40, 15.17), (100, 16.36)],
)
def test_effective_epochs_are_the_published_table(epochs, worth):
    assert effective_epochs(epochs) == pytest.approx(worth, abs=0.005)


@given(st.floats(0, 1e4), st.floats(0, 1e4))
def test_more_epochs_are_never_worth_less_and_never_more_than_themselves(a, b):
    low, high = sorted((a, b))
    assert effective_epochs(low) <= effective_epochs(high)
    assert effective_epochs(high) <= min(high * (1 + 1e-12), 1 + 15.387756)


@given(st.floats(1, 200))
def test_the_marginal_value_is_the_slope_of_the_worth(epochs):
    step = 1e-4
    slope = (effective_epochs(epochs + step) - effective_epochs(epochs)) / step
    assert slope == pytest.approx(marginal_value(epochs + step / 2), abs=1e-6)


def test_phases_share_out_every_token_and_every_flop():
    config = load_config(CONFIGS)
    for stage in config.stages:
        phases = phase_tokens(stage.training)
        assert sum(tokens for _, tokens in phases) == stage.training.total_tokens
        longest = max(length for length, _ in phases)
        work = stage_flops(config.model, stage)
        assert 0 < work <= stage.training.total_tokens * flops_per_token(config.model, longest)


@given(st.floats(0.01, 200), st.integers(1, 10**10), st.floats(0, 0.5))
def test_epochs_become_tokens_and_tokens_epochs(epochs, unique, replay):
    tokens = tokens_for_epochs(epochs, unique, replay_share=replay)
    assert abs(tokens * (1 - replay) - epochs * unique) <= 1 + 1e-9 * tokens


def test_a_budget_under_one_batch_is_one_step_as_in_training():
    training = load_config(CONFIGS).stages[0].training.model_copy(update={"total_tokens": 1})
    assert training.steps == 1


@pytest.mark.parametrize(("epochs", "unique"), [(0, 5), (1, 0), (-1, 5)])
def test_epochs_of_nothing_are_refused(epochs, unique):
    with pytest.raises(ValueError, match="must be positive"):
        tokens_for_epochs(epochs, unique)


def test_replay_comes_out_of_the_stages_own_epochs():
    config = load_config(CONFIGS)
    epochs = [stage_budget(config, stage).epochs for stage in config.stages]
    assert epochs == [15, 18, 90, 18]
    promised = load_config(CONFIGS / "recipes" / "no_replay")
    epochs = [stage_budget(promised, stage).epochs for stage in promised.stages]
    assert epochs == [15, 20, 100, 20]


def test_the_first_stage_replays_nothing_whatever_is_set():
    config = load_config(CONFIGS, overrides=["data.replay_share=0.5"])
    epochs = [stage_budget(config, stage).epochs for stage in config.stages]
    assert epochs == [15, 10, 50, 10]


def test_embedded_epochs_are_not_known_before_the_data_is_read():
    config = load_config(CONFIGS, overrides=["data.source=embedded"])
    assert {stage_budget(config, stage).epochs for stage in config.stages} == {None}
