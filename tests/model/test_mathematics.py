"""What must hold for any weights: causality, relative positions, start values, counts."""

import math
from pathlib import Path
from typing import get_args

import pytest
import torch

from tests.model.tiny import model_with_norms, rows, shape
from yxanul.config.load import load_config
from yxanul.config.schema import ComputeConfig, ModelConfig
from yxanul.model.attention import PATHS, attention_path
from yxanul.model.initialisation import parameter_deviation
from yxanul.model.layers import Rotary
from yxanul.model.transformer import Transformer
from yxanul.plan.parameters import parameter_count


def flagship() -> ModelConfig:
    return load_config(Path(__file__).parents[2] / "configs", model="flagship").model


@pytest.mark.parametrize("attention", ["plain", "sdpa"])
@pytest.mark.parametrize("kv_heads", [4, 2])
def test_no_position_sees_a_later_token(attention, kv_heads):
    model = model_with_norms(shape(num_key_value_heads=kv_heads), attention=attention)
    inputs, _ = rows(1, 20)
    changed = inputs.clone()
    changed[0, 12] = (changed[0, 12] + 1) % model.config.vocab_size
    before, after = model(inputs), model(changed)
    assert torch.equal(before[0, :12], after[0, :12])
    assert not torch.equal(before[0, 12], after[0, 12])
    assert not torch.equal(before[0, 19], after[0, 19])


def test_the_gradient_of_a_position_reaches_no_later_token():
    model = model_with_norms(shape())
    inputs, _ = rows(1, 16)
    embedded: list[torch.Tensor] = []
    model.embed_tokens.register_forward_hook(
        lambda module, args, output: embedded.append(output) or output.retain_grad()
    )
    model(inputs)[0, 9].sum().backward()
    reached = embedded[0].grad[0].abs().sum(dim=1) > 0
    assert reached.tolist() == [True] * 10 + [False] * 6


def test_rotary_scores_depend_on_relative_position_only():
    rotary = Rotary(16, 64, theta=10000.0)
    generator = torch.Generator().manual_seed(0)
    q, k = torch.randn(2, 16, generator=generator)
    turned_q = rotary(q.expand(1, 64, 1, 16))[0, :, 0]
    turned_k = rotary(k.expand(1, 64, 1, 16))[0, :, 0]
    scores = turned_q @ turned_k.T
    for offset in (-7, 0, 1, 30):
        diagonal = scores.diagonal(offset)
        torch.testing.assert_close(diagonal, diagonal[:1].expand_as(diagonal), rtol=0, atol=2e-5)
    assert scores.diagonal(0)[0] != scores.diagonal(3)[0]
    torch.testing.assert_close(turned_q[0], q)


def test_every_path_has_a_name_and_an_unknown_one_is_refused():
    allowed = get_args(ComputeConfig.model_fields["attention"].annotation)
    assert set(PATHS) == {*allowed} - {"auto"}
    assert all(callable(attention_path(name)) for name in PATHS if name != "flash3")
    with pytest.raises(KeyError):
        attention_path("guess")


@pytest.mark.parametrize(
    "changes",
    [{}, {"num_key_value_heads": 1}, {"head_dim": 8}, {"num_hidden_layers": 5}],
    ids=str,
)
def test_the_plan_counts_the_parameters_that_the_model_has(changes):
    config = shape(**changes)
    model = Transformer(config)
    assert sum(p.numel() for p in model.parameters()) == parameter_count(config).total
    assert model.state_dict().keys() == dict(model.named_parameters()).keys()


def test_the_flagship_has_302_882_304_parameters():
    with torch.device("meta"):
        model = Transformer(flagship())
    assert sum(p.numel() for p in model.parameters()) == 302_882_304
    assert parameter_count(flagship()).total == 302_882_304


def test_the_flagship_starts_at_the_loss_of_a_uniform_guess_with_the_deviations_of_the_formula():
    config = flagship()
    model = Transformer.initialised(
        config, seed=1, compute_dtype=torch.float32, attention="plain", loss_chunk_tokens=64
    )
    # One matrix of each kind, at both ends of the depth: measuring all 303M numbers takes seconds.
    for name, parameter in model.named_parameters():
        if name.startswith("layers.") and not name.startswith(("layers.0.", "layers.27.")):
            continue
        measured = parameter.detach().double().std(correction=0).item()
        # Four standard errors of a deviation measured on n normal numbers.
        tolerance = 4 / math.sqrt(2 * parameter.numel())
        assert measured == pytest.approx(parameter_deviation(name, config), rel=tolerance), name
    inputs, targets = rows(1, 64, vocab=config.vocab_size)
    loss = model.nats(inputs, targets).mean().item()
    assert loss == pytest.approx(10.8, abs=0.1)


def test_start_values_follow_from_the_seed():
    first, again, other = (Transformer.initialised(shape(), seed=s) for s in (3, 3, 4))
    for name, value in first.state_dict().items():
        assert torch.equal(value, again.state_dict()[name])
        if not name.endswith("norm.weight"):
            assert not torch.equal(value, other.state_dict()[name])


def test_nats_agree_with_the_loss_that_is_trained_on():
    model = model_with_norms(shape(), loss_chunk_tokens=13)
    inputs, targets = rows(2, 30)
    targets[0, :5] = -100
    nats = model.nats(inputs, targets)
    assert nats.shape == targets.shape
    assert torch.equal(nats[0, :5], torch.zeros(5))
    torch.testing.assert_close(nats.sum(), model(inputs, targets).detach(), rtol=1e-5, atol=0)
