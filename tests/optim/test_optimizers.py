"""Groups, decay, clipping, and moments that survive a checkpoint bit for bit."""

from importlib import import_module

import pytest
import torch

from tests.model.tiny import model_with_norms, rows, shape
from yxanul.config.schema import OptimizationConfig, OptimizerConfig
from yxanul.optim.groups import GROUPS, grouped_parameters
from yxanul.optim.optimizers import LearningRates, Optimizers
from yxanul.plan.memory import optimizer_bytes

RATES = LearningRates(matrices=3e-3, embedding=2e-3, norms=1e-3)
NAMES = ["adamw", "muon", "normuon"]


def pair(name: str = "adamw", **settings):
    model = model_with_norms(shape())
    if name == "normuon":
        name, settings = "muon", {"muon_beta2": 0.9, **settings}
    config = OptimizerConfig(name=name, **settings)
    return model, Optimizers(model, config, muon_dtype=torch.float32)


def update(model, optimizers, step: int, rates: LearningRates = RATES) -> None:
    inputs, targets = rows(2, 12, seed=step)
    (model(inputs, targets) / inputs.numel()).backward()
    optimizers.clip_gradients()
    optimizers.step(rates)


def copies(tensors) -> dict[str, torch.Tensor]:
    return {name: tensor.detach().clone() for name, tensor in tensors.items()}


def assert_same(first, second) -> None:
    assert first.keys() == second.keys()
    for name, tensor in first.items():
        assert torch.equal(tensor, second[name]), name


@pytest.mark.parametrize("name", NAMES)
def test_the_moments_take_what_the_plan_says(name):
    sizes = shape(num_key_value_heads=2)
    model = model_with_norms(sizes)
    beta2 = 0.9 if name == "normuon" else None
    config = OptimizerConfig(name="adamw" if name == "adamw" else "muon", muon_beta2=beta2)
    optimizers = Optimizers(model, config, muon_dtype=torch.float32)
    update(model, optimizers, 1)
    moments = [t for t in optimizers.state_tensors().values() if t.dim() > 0]
    held = sum(tensor.numel() * tensor.element_size() for tensor in moments)
    assert held == optimizer_bytes(sizes, OptimizationConfig(optimizer=config))


def test_every_parameter_is_in_one_group():
    model, _ = pair()
    groups = grouped_parameters(model.named_parameters())
    assert tuple(groups) == GROUPS
    names = [name for group in groups.values() for name in group]
    assert sorted(names) == sorted(dict(model.named_parameters()))
    assert list(groups["embedding"]) == ["embed_tokens.weight"]
    assert all(p.dim() == 1 for p in groups["norms"].values())
    assert all(p.dim() == 2 for p in groups["matrices"].values())


@pytest.mark.parametrize("name", NAMES)
def test_weight_decay_acts_on_matrices_only(name):
    model, optimizers = pair(name, weight_decay=0.5)
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    before = copies(model.state_dict())
    optimizers.step(RATES)
    groups = grouped_parameters(model.named_parameters())
    for group, members in groups.items():
        kept = 1 - RATES.matrices * 0.5 if group == "matrices" else 1.0
        for key, parameter in members.items():
            torch.testing.assert_close(parameter.detach(), kept * before[key])


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("group", GROUPS)
def test_each_group_has_its_own_rate(name, group):
    model, optimizers = pair(name)
    before = copies(model.state_dict())
    only = LearningRates(**{g: 1e-3 if g == group else 0.0 for g in GROUPS})
    update(model, optimizers, 0, only)
    for g, members in grouped_parameters(model.named_parameters()).items():
        moved = [not torch.equal(p, before[key]) for key, p in members.items()]
        assert all(moved) if g == group else not any(moved), g


def test_gradients_are_clipped_to_their_joint_norm():
    model, optimizers = pair(max_grad_norm=0.25)
    inputs, targets = rows(2, 12)
    model(inputs, targets).backward()
    whole = torch.cat([p.grad.flatten() for p in model.parameters()]).norm()
    torch.testing.assert_close(optimizers.clip_gradients(), whole, rtol=1e-4, atol=0)
    clipped = torch.cat([p.grad.flatten() for p in model.parameters()]).norm()
    assert clipped.item() == pytest.approx(0.25, rel=1e-4)


def test_a_step_drops_the_gradients():
    model, optimizers = pair("muon")
    update(model, optimizers, 0)
    assert all(p.grad is None for p in model.parameters())


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("k", [0, 1, 3])
def test_k_steps_and_the_rest_after_a_restore_equal_all_at_once_bitwise(name, fused, k):
    model, optimizers = pair(name, fused=fused)
    for step in range(k):
        update(model, optimizers, step)
    weights, moments = copies(model.state_dict()), copies(optimizers.state_tensors())
    for step in range(k, 5):
        update(model, optimizers, step)

    again, restored = pair(name, fused=fused)
    again.load_state_dict(weights)
    restored.load_state_tensors(moments)
    assert_same(moments, restored.state_tensors())
    for step in range(k, 5):
        update(again, restored, step)
    assert_same(model.state_dict(), again.state_dict())
    assert_same(optimizers.state_tensors(), restored.state_tensors())


def test_without_its_fused_kernel_adamw_moves_all_tensors_at_once_where_torch_can(monkeypatch):
    # torch.optim has no attribute for its module optimizer.
    optimizer, adam = (import_module(f"torch.optim.{name}") for name in ("optimizer", "adam"))
    monkeypatch.setattr(optimizer, "_get_foreach_kernels_supported_devices", lambda: ["cpu"])
    calls, at_once = [], adam._multi_tensor_adam

    def counted(params, *rest, **options):
        calls.append(len(params))
        at_once(params, *rest, **options)

    monkeypatch.setattr(adam, "_multi_tensor_adam", counted)
    model, optimizers = pair(fused=False)
    update(model, optimizers, 0)
    assert sum(calls) == len(list(model.parameters()))
    assert len(calls) == len(GROUPS)


def test_a_restore_copies_and_forgets_what_was_there():
    model, optimizers = pair()
    start = copies(optimizers.state_tensors())
    update(model, optimizers, 0)
    moments = copies(optimizers.state_tensors())
    other, restored = pair()
    restored.load_state_tensors(moments)
    update(other, restored, 1)
    assert_same(moments, optimizers.state_tensors())
    restored.load_state_tensors(start)
    assert_same(start, restored.state_tensors())


def break_missing(moments):
    del moments["exp_avg.embed_tokens.weight"]


def break_extra(moments):
    moments["exp_avg.lm_head.weight"] = torch.zeros(3)


def break_shape(moments):
    moments["exp_avg_sq.norm.weight"] = torch.zeros(3)


def break_type(moments):
    moments["exp_avg.norm.weight"] = moments["exp_avg.norm.weight"].double()


def break_updates(moments):
    del moments["updates"]


def break_count(moments):
    moments["updates"] = torch.tensor([1.5, 2.0])


def break_sign(moments):
    moments["updates"] = torch.tensor(-1)


BREAKS = [
    break_missing,
    break_extra,
    break_shape,
    break_type,
    break_updates,
    break_count,
    break_sign,
]


@pytest.mark.parametrize("damage", BREAKS, ids=lambda damage: damage.__name__)
def test_moments_that_do_not_fit_are_refused_and_change_nothing(damage):
    model, optimizers = pair()
    update(model, optimizers, 0)
    before = copies(optimizers.state_tensors())
    moments = copies(before)
    damage(moments)
    with pytest.raises(ValueError, match="the optimizer state"):
        optimizers.load_state_tensors(moments)
    assert_same(before, optimizers.state_tensors())


@pytest.mark.parametrize("other", ["muon", "normuon"])
def test_moments_of_the_other_optimizer_are_refused(other):
    model, muon = pair("muon")
    update(model, muon, 0)
    _, another = pair("adamw" if other == "muon" else other)
    with pytest.raises(ValueError, match="the optimizer state"):
        another.load_state_tensors(muon.state_tensors())
