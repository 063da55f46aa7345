"""Muon's updates are nearly orthogonal and as large as AdamW's."""

import pytest
import torch
from torch import nn

from yxanul.optim.muon import Muon, muon_moments, orthogonalise

SHAPES = [(48, 48), (96, 24), (24, 96)]


def matrices(shape, *, count: int = 3, smallest: float = 0.03) -> torch.Tensor:
    """Random matrices whose singular values run from 1 down to `smallest`."""
    generator = torch.Generator().manual_seed(2)
    u, _, v = torch.linalg.svd(torch.randn(count, *shape, generator=generator), full_matrices=False)
    return u * torch.logspace(0, torch.tensor(smallest).log10().item(), u.size(-1)) @ v


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_orthogonalised_matrices_have_singular_values_near_one(shape, dtype):
    found = orthogonalise(matrices(shape).to(dtype)).float()
    values = torch.linalg.svdvals(found)
    assert found.shape == (3, *shape)
    assert values.min() > 0.6
    assert values.max() < 1.3


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_singular_vectors_stay(shape):
    stack = matrices(shape)
    u, _, v = torch.linalg.svd(stack, full_matrices=False)
    turned = u.mT @ orthogonalise(stack) @ v.mT
    off_diagonal = turned - torch.diag_embed(turned.diagonal(dim1=-2, dim2=-1))
    assert off_diagonal.abs().max() < 1e-4


def test_size_does_not_matter_and_nothing_stays_nothing():
    stack = matrices((24, 24))
    torch.testing.assert_close(
        orthogonalise(1e4 * stack), orthogonalise(stack), rtol=1e-3, atol=1e-4
    )
    assert not orthogonalise(torch.zeros(2, 8, 4)).any()


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_an_update_is_as_large_as_one_of_adamw(shape):
    """AdamW's updates have a root mean square of about 0.2 learning rates (arXiv 2502.16982)."""
    weight = nn.Parameter(torch.zeros(shape))
    muon = Muon([weight], lr=0.5, momentum=0.95, weight_decay=0.0, iterate_dtype=torch.float32)
    weight.grad = matrices(shape)[0]
    muon.step()
    size = weight.detach().square().mean().sqrt().item() / 0.5
    assert size == pytest.approx(0.2, rel=0.25)


def test_weight_decay_shrinks_before_the_update_and_no_gradient_means_no_change():
    moved, still = nn.Parameter(torch.ones(4, 8)), nn.Parameter(torch.ones(4, 8))
    muon = Muon([moved, still], lr=0.1, momentum=0.9, weight_decay=0.5, iterate_dtype=torch.float32)
    moved.grad = torch.zeros(4, 8)
    muon.step()
    torch.testing.assert_close(moved.detach(), torch.full((4, 8), 0.95))
    assert torch.equal(still, torch.ones(4, 8))


def test_momentum_is_nesterov_of_the_running_mean():
    weight = nn.Parameter(torch.zeros(6, 6))
    muon = Muon([weight], lr=1.0, momentum=0.8, weight_decay=0.0, iterate_dtype=torch.float32)
    first, second = matrices((6, 6), count=2)
    weight.grad = first.clone()
    muon.step()
    before = weight.detach().clone()
    weight.grad = second.clone()
    muon.step()
    mean = 0.8 * (0.2 * first) + 0.2 * second
    direction = orthogonalise((0.2 * second + 0.8 * mean)[None])[0]
    step = -0.2 * 6**0.5 * direction
    torch.testing.assert_close(weight.detach() - before, step, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_evened_neurons_move_as_far_as_each_other_and_the_whole_as_far_as_without(shape):
    def moved(beta2: float | None, *, steps: int) -> torch.Tensor:
        weight = nn.Parameter(torch.zeros(shape))
        muon = Muon(
            [weight],
            lr=0.5,
            momentum=0.0,
            beta2=beta2,
            weight_decay=0.0,
            iterate_dtype=torch.float32,
        )
        for gradient in matrices(shape, count=steps):
            weight.data.zero_()
            weight.grad = gradient.clone()
            muon.step()
        assert set(muon.state[weight]) == set(muon_moments(weight.shape, beta2=beta2))
        return weight.detach()

    plain, evened = moved(None, steps=1), moved(0.95, steps=1)
    along = 1 if shape[0] >= shape[1] else 0
    sizes = evened.square().mean(dim=along)
    assert sizes.max() < 1.001 * sizes.min()
    assert plain.square().mean(dim=along).max() > 1.05 * plain.square().mean(dim=along).min()
    assert evened.norm().item() == pytest.approx(plain.norm().item(), rel=1e-4)
    # Later ones are divided by the mean of all so far, not by their own.
    later = moved(0.95, steps=3).square().mean(dim=along)
    first, second, third = (
        orthogonalise(m[None])[0].square().mean(dim=along) for m in matrices(shape, count=3)
    )
    memory = 0.05 * (0.95**2 * first + 0.95 * second + third)
    shares = third / memory
    torch.testing.assert_close(later / later.sum(), shares / shares.sum(), rtol=1e-3, atol=1e-6)
