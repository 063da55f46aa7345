"""8-bit products round what is multiplied in training, and nothing else."""

import subprocess
import sys
from functools import cache

import pytest
import torch

from tests.model.learned import Learned, assert_learned_alike, learned
from tests.model.tiny import difference, gradients, model_with_norms, rows, shape
from yxanul.errors import UsageError
from yxanul.model.fp8 import use_fp8
from yxanul.model.transformer import Transformer

pytestmark = pytest.mark.filterwarnings("ignore:.*:DeprecationWarning:torchao")
RECIPES = ["tensorwise", "rowwise"]


def eight_bit(part: str, recipe: str, **options) -> Transformer:
    model = model_with_norms(shape(), attention="plain", **options)
    use_fp8(model.layers, part, recipe=recipe, emulate=True)
    return model


@cache
def learned_without_rounding() -> Learned:
    return learned(model_with_norms(shape(), attention="plain"))


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("part", ["ffn", "blocks"])
def test_a_batch_is_learned_as_without_rounding(part, recipe):
    found, wanted = learned(eight_bit(part, recipe)), learned_without_rounding()
    assert_learned_alike(found, wanted, gradients_within=0.2)
    assert found.losses != wanted.losses  # something was rounded


def test_a_batch_that_is_learned_by_gradients_twice_as_large_is_told_with_both_norms():
    """After clipping, and by AdamW's steps, they would be the same."""
    model, wanted = model_with_norms(shape(), attention="plain"), learned_without_rounding()
    for parameter in model.parameters():
        parameter.register_hook(lambda gradient: 2 * gradient)
    found = learned(model)
    assert found.losses == pytest.approx(wanted.losses, rel=1e-3)
    told = rf"assert {found.grad_norm}\d* == {wanted.grad_norm}\d* ±"
    with pytest.raises(AssertionError, match=told):
        assert_learned_alike(found, wanted, gradients_within=0.2)


@pytest.mark.parametrize("recipe", RECIPES)
def test_gradients_are_rounded_to_eight_bits_and_stay_fp32(recipe):
    inputs, targets = rows(4, 32)
    plain, rounded = model_with_norms(shape(), attention="plain"), eight_bit("blocks", recipe)
    for model in (plain, rounded):
        model(inputs, targets).backward()
    wanted = gradients(plain)
    for name, gradient in gradients(rounded).items():
        assert gradient.dtype == torch.float32
        assert difference(gradient, wanted[name]) < 0.2, name
        if name.endswith("q_proj.weight"):
            assert difference(gradient, wanted[name]) > 1e-4, name


def test_scores_are_those_of_the_weights_as_they_are():
    inputs, targets = rows(2, 24)
    plain = model_with_norms(shape(), attention="plain")
    assert torch.equal(
        eight_bit("blocks", "tensorwise").nats(inputs, targets), plain.nats(inputs, targets)
    )


def test_the_feed_forward_part_leaves_attention_alone():
    found = eight_bit("ffn", "tensorwise")
    attention, mlp = found.layers[0].self_attn, found.layers[0].mlp
    plain = torch.nn.functional.linear
    assert attention.product is plain
    assert attention.o_proj.product is plain
    assert all(m.product is not plain for m in (mlp.gate_proj, mlp.up_proj, mlp.down_proj))


def test_names_of_parameters_stay():
    plain = model_with_norms(shape()).state_dict()
    assert eight_bit("blocks", "rowwise").state_dict().keys() == plain.keys()


def test_recomputed_blocks_are_rounded_alike():
    inputs, targets = rows(2, 32)
    found = []
    for checkpointing in (False, True):
        model = eight_bit("blocks", "tensorwise", checkpointed_blocks=2 * checkpointing)
        model(inputs, targets).backward()
        found.append(gradients(model))
    for name, gradient in found[0].items():
        assert torch.equal(gradient, found[1][name]), name


def test_a_side_that_eight_bits_cannot_multiply_is_refused():
    model = model_with_norms(shape(intermediate_size=72))
    with pytest.raises(UsageError, match="multiples of 16, and one has 72 x 32"):
        use_fp8(model.layers, "ffn", recipe="tensorwise", emulate=True)


@pytest.mark.parametrize(
    "work",
    [
        "from yxanul.model.fp8 import use_fp8; use_fp8([], 'ffn', recipe='tensorwise')",
        pytest.param(
            "from yxanul.evaluate.models.hub import transformers; transformers().PreTrainedModel",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_torchao_is_loaded_without_a_word(work):
    told = subprocess.run([sys.executable, "-c", work], capture_output=True, text=True, check=True)
    assert (told.stdout, told.stderr) == ("", "")
