"""Switches that save memory or time change no loss."""

import shutil

import pytest
import torch

from tests.model.tiny import difference, gradients, model_with_norms, rows, shape


def loss_and_gradients(*, compile: str = "off", **options):
    model = model_with_norms(shape(), attention="plain", **options)
    model.compile_training(compile)
    inputs, targets = rows(2, 24)
    loss = model(inputs, targets)
    loss.backward()
    return loss.detach(), gradients(model)


@pytest.mark.parametrize("blocks", [1, 3])
def test_gradient_checkpointing_changes_nothing(blocks):
    loss, wanted = loss_and_gradients()
    again, found = loss_and_gradients(checkpointed_blocks=blocks)
    assert torch.equal(loss, again)
    for name, gradient in found.items():
        assert torch.equal(gradient, wanted[name]), name


def test_gradient_checkpointing_asks_no_generator_of_random_numbers(monkeypatch):
    """Keeping its state takes time for every block, in which nothing is drawn."""
    model = model_with_norms(shape(), attention="plain", checkpointed_blocks=3)
    monkeypatch.delattr(torch, "get_rng_state")
    model(*rows(2, 24)).backward()
    assert all(gradient is not None for gradient in gradients(model).values())


@pytest.mark.slow
# torch.compile warns about torch's own code
@pytest.mark.filterwarnings("default")
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs g++ on a CPU")
@pytest.mark.parametrize("how", ["block", "model"])
def test_compiled_training_gives_the_same_loss_and_keeps_names(how):
    loss, wanted = loss_and_gradients()
    again, found = loss_and_gradients(compile=how)
    torch.testing.assert_close(again, loss, rtol=1e-6, atol=0)
    assert found.keys() == wanted.keys()
    for name, gradient in found.items():
        assert difference(gradient, wanted[name]) < 1e-5, name


def test_bf16_is_close_to_fp32():
    loss, _ = loss_and_gradients()
    rounded, found = loss_and_gradients(compute_dtype=torch.bfloat16)
    torch.testing.assert_close(rounded, loss, rtol=5e-3, atol=0)
    assert all(gradient.dtype == torch.float32 for gradient in found.values())
