"""The chunked loss is the plain cross-entropy, in less memory."""

import pytest
import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from tests.model.storages import Storages
from tests.model.tiny import difference
from yxanul.config.tokens import IGNORED
from yxanul.model.loss import chunked_cross_entropy, token_nats

TOKENS, HIDDEN, VOCAB = 48, 24, 301
CHUNKS = [1, 7, 48, 1000]


def case(*, ignored: bool, seed: int = 5):
    """Hidden states and a head whose logits spread over several nats, and targets."""
    generator = torch.Generator().manual_seed(seed)
    hidden = torch.randn(TOKENS, HIDDEN, generator=generator)
    weight = torch.randn(VOCAB, HIDDEN, generator=generator) / 2
    targets = torch.randint(0, VOCAB, (TOKENS,), generator=generator)
    if ignored:
        targets[::3] = IGNORED
    return hidden, weight, targets


def plain(hidden, weight, targets):
    """Loss and gradients by torch's own cross-entropy, in fp32."""
    hidden = hidden.float().detach().requires_grad_()
    weight = weight.detach().clone().requires_grad_()
    loss = F.cross_entropy(hidden @ weight.T, targets, reduction="sum", ignore_index=IGNORED)
    (loss * 0.37).backward()
    return loss.detach(), hidden.grad, weight.grad


def chunked(hidden, weight, targets, **options):
    hidden = hidden.detach().clone().requires_grad_()
    weight = weight.detach().clone().requires_grad_()
    loss = chunked_cross_entropy(hidden, weight, targets=targets, **options)
    (loss * 0.37).backward()
    assert loss.dtype == torch.float32
    assert loss.shape == ()
    assert (hidden.grad.dtype, weight.grad.dtype) == (hidden.dtype, torch.float32)
    return loss.detach(), hidden.grad.float(), weight.grad


@pytest.mark.parametrize("ignored", [False, True])
@pytest.mark.parametrize("chunk_tokens", CHUNKS)
def test_chunked_loss_equals_cross_entropy_in_value_and_gradients(chunk_tokens, ignored):
    data = case(ignored=ignored)
    for ours, theirs in zip(chunked(*data, chunk_tokens=chunk_tokens), plain(*data), strict=True):
        assert difference(ours, theirs) < 2e-6


def test_rows_that_pad_the_head_on_a_card_change_nothing(monkeypatch):
    data = case(ignored=True)
    wanted = chunked(*data, chunk_tokens=7)

    def padded(weight, *, dtype):
        return F.pad(weight.to(dtype), (0, 0, 0, 19), value=1.0)  # not zeros: they are masked

    monkeypatch.setattr("yxanul.model.loss._head", padded)
    for found, plainly in zip(chunked(*data, chunk_tokens=7), wanted, strict=True):
        torch.testing.assert_close(found, plainly)


@pytest.mark.parametrize("ignored", [False, True])
@pytest.mark.parametrize("chunk_tokens", CHUNKS)
def test_chunked_loss_is_close_in_bf16(chunk_tokens, ignored):
    hidden, weight, targets = case(ignored=ignored)
    hidden = hidden.bfloat16()
    loss, grad_hidden, grad_weight = chunked(hidden, weight, targets, chunk_tokens=chunk_tokens)
    wanted = plain(hidden, weight.bfloat16().float(), targets)
    # bf16 has 8 bits: 0.4 % a number, and the mean of many errs less.
    assert difference(loss, wanted[0]) < 2e-3
    assert difference(grad_hidden, wanted[1]) < 2e-2
    assert difference(grad_weight, wanted[2]) < 2e-2


def test_ignored_targets_have_no_gradient_and_all_ignored_have_no_loss():
    hidden, weight, targets = case(ignored=True)
    _, grad_hidden, _ = chunked(hidden, weight, targets, chunk_tokens=10)
    assert torch.equal(grad_hidden[targets == IGNORED], torch.zeros(16, HIDDEN))
    nothing = torch.full_like(targets, IGNORED)
    loss, grad_hidden, grad_weight = chunked(hidden, weight, nothing, chunk_tokens=10)
    assert loss == 0
    assert not grad_hidden.any()
    assert not grad_weight.any()


def test_token_nats_are_the_terms_of_the_sum():
    hidden, weight, targets = case(ignored=True)
    nats = token_nats(hidden, weight, targets=targets, chunk_tokens=11)
    theirs = F.cross_entropy(hidden @ weight.T, targets, reduction="none", ignore_index=IGNORED)
    torch.testing.assert_close(nats, theirs, rtol=1e-5, atol=1e-6)


def test_a_hopeless_token_costs_what_fp32_can_say_and_still_pulls():
    hidden = torch.tensor([[1.0]], requires_grad=True)
    weight = torch.tensor([[500.0], [0.0]], requires_grad=True)
    loss = chunked_cross_entropy(hidden, weight, targets=torch.tensor([1]), chunk_tokens=1)
    loss.backward()
    assert 80 < loss < 500
    assert weight.grad.flatten().tolist() == [1.0, -1.0]


@pytest.mark.parametrize("poison", [float("nan"), float("inf")])
def test_what_is_not_finite_stays_visible(poison):
    hidden, weight, targets = case(ignored=False)
    hidden[3, 3] = poison
    loss, _, grad_weight = chunked(hidden, weight, targets, chunk_tokens=16)
    assert loss.isnan()
    assert grad_weight.isnan().any()


def test_the_heads_gradient_is_scaled_where_it_lies():
    hidden, weight, targets = case(ignored=False)
    weight.requires_grad_()
    loss = chunked_cross_entropy(hidden, weight, targets=targets, chunk_tokens=7)
    with Storages(weight.shape) as seen:
        (loss * 0.37).backward()
    assert seen.found == {weight.grad.untyped_storage().data_ptr()}


def test_the_head_is_cast_and_padded_in_one_piece_of_memory():
    hidden, weight, targets = case(ignored=False)
    padded, plain_shape = (384, HIDDEN), weight.shape
    with Storages(padded, keep=True) as whole, Storages(plain_shape, keep=True) as seen:
        chunked_cross_entropy(hidden.bfloat16(), weight, targets=targets, chunk_tokens=48)
    assert len(whole.found) == 1
    assert seen.found <= whole.found | {weight.untyped_storage().data_ptr()}


def test_a_second_backward_is_refused_and_scales_nothing_twice():
    hidden, weight, targets = case(ignored=False)
    weight.requires_grad_()
    loss = chunked_cross_entropy(hidden, weight, targets=targets, chunk_tokens=7) * 0.37
    loss.backward(retain_graph=True)
    once = weight.grad.clone()
    with pytest.raises(RuntimeError, match="once"):
        loss.backward()
    assert torch.equal(weight.grad, once)


class LargestOutput(TorchDispatchMode):
    """Records the most numbers that any operation made at once."""

    numbers = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor):
            self.numbers = max(self.numbers, result.numel())
        return result


def test_no_tensor_grows_with_tokens_times_vocabulary():
    tokens, hidden_size, vocab, chunk = 512, 8, 4001, 16
    hidden = torch.randn(tokens, hidden_size, requires_grad=True)
    weight = torch.randn(vocab, hidden_size, requires_grad=True)
    targets = torch.randint(0, vocab, (tokens,))
    with LargestOutput() as ours:
        chunked_cross_entropy(hidden, weight, targets=targets, chunk_tokens=chunk).backward()
    padded = 4096  # up to a multiple of 128
    assert ours.numbers == chunk * padded
    with LargestOutput() as nats:
        token_nats(hidden, weight, targets=targets, chunk_tokens=chunk)
    assert nats.numbers == chunk * padded
    with LargestOutput() as theirs:  # the measure itself would notice
        F.cross_entropy(hidden @ weight.T, targets).backward()
    assert theirs.numbers == tokens * vocab
