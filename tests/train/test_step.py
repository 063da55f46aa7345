"""One update is the same however its rows are cut; what is not finite moves nothing."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from tests.model.tiny import difference, model_with_norms, rows, shape
from yxanul.config.schema import OptimizerConfig
from yxanul.data.batches.loader import StepRows
from yxanul.errors import NumericsError
from yxanul.optim.optimizers import LearningRates, Optimizers
from yxanul.parallel.processes import ALONE
from yxanul.parallel.replica import TorchReplica
from yxanul.train.updates.step import Engine, measure_step, train_step

ROWS, SEQ_LEN = 4, 24
RATES = LearningRates(matrices=1e-3, embedding=1e-3, norms=1e-3)
STILL = LearningRates(matrices=0.0, embedding=0.0, norms=0.0)


def engine(*, micro_batch: int = ROWS) -> Engine:
    model = model_with_norms(shape())
    config = OptimizerConfig(max_grad_norm=1e9, weight_decay=0.0)
    return Engine(
        replica=TorchReplica(model),
        optimizers=Optimizers(model, config, muon_dtype=torch.float32),
        processes=ALONE,
        device=torch.device("cpu"),
        micro_batch_tokens=micro_batch * SEQ_LEN,
    )


def batch():
    inputs, targets = rows(ROWS, SEQ_LEN)
    return StepRows.whole(inputs.numpy(), targets.numpy())


def first_moments(found: Engine) -> dict[str, torch.Tensor]:
    """The gradients, as AdamW remembers them after one step: (1 - beta1) times each."""
    tensors = found.optimizers.state_tensors()
    return {name: t for name, t in tensors.items() if name.startswith("exp_avg.")}


@pytest.mark.parametrize("micro_batch", [1, 2, 3])
def test_accumulating_small_micro_batches_equals_one_large_one(micro_batch):
    whole, cut = engine(), engine(micro_batch=micro_batch)
    wanted = train_step(whole, batch(), rates=STILL)
    found = train_step(cut, batch(), rates=STILL)
    assert found.loss == pytest.approx(wanted.loss, rel=1e-6)
    assert found.grad_norm == pytest.approx(wanted.grad_norm, rel=1e-6)
    wanted_moments = first_moments(whole)
    for name, moment in first_moments(cut).items():
        assert difference(moment, wanted_moments[name]) < 2e-6, name


def test_the_loss_is_the_mean_of_nats_before_the_update():
    found = engine()
    inputs, targets = rows(ROWS, SEQ_LEN)
    before = found.replica.module.nats(inputs, targets).mean().item()
    result = train_step(found, batch(), rates=RATES)
    assert result.loss == pytest.approx(before, rel=1e-6)
    assert found.replica.module.nats(inputs, targets).mean().item() < before


def test_the_same_update_twice_is_the_same_bitwise():
    first, second = engine(micro_batch=3), engine(micro_batch=3)
    for found in (first, second):
        for _ in range(3):
            train_step(found, batch(), rates=RATES)
    for name, tensor in first.replica.module.state_dict().items():
        assert torch.equal(tensor, second.replica.module.state_dict()[name]), name


class Readings(TorchDispatchMode):
    """Counts how often a single number is read off a tensor."""

    count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += func is torch.ops.aten._local_scalar_dense.default
        return func(*args, **(kwargs or {}))


def test_loss_and_norm_are_read_together_once_all_is_launched():
    """tests/gpu says of a card that it waits once; here that no number is read by itself."""
    with Readings() as seen:
        result = measure_step(engine(micro_batch=1), batch())
    assert seen.count == 0
    # The norm is an fp32 number still, and the loss more than that.
    assert float(np.float32(result.grad_norm)) == result.grad_norm
    assert float(np.float32(result.loss)) != result.loss


def test_what_is_done_meanwhile_is_done_once_all_is_launched_and_before_anything_is_read():
    found = engine(micro_batch=1)
    seen = []

    def meanwhile():
        seen.append([p.grad.norm().item() for p in found.replica.module.parameters()])

    result = measure_step(found, batch(), meanwhile=meanwhile)
    assert len(seen) == 1  # not once a micro-batch
    assert math.hypot(*seen[0]) == pytest.approx(result.grad_norm, rel=1e-5)


@pytest.mark.parametrize("masks", [False, True])
def test_documents_are_looked_for_only_where_the_model_masks_them(monkeypatch, masks):
    asked, bounds = [], StepRows.bounds
    monkeypatch.setattr(
        StepRows, "bounds", lambda rows, span: asked.append(span) or bounds(rows, span)
    )
    measure_step(replace(engine(micro_batch=1), masks_documents=masks), batch())
    assert len(asked) == ROWS * masks


@pytest.mark.parametrize("poison", [math.nan, math.inf])
def test_what_is_not_finite_is_an_error_and_no_weight_moves(poison):
    found = engine()
    with torch.no_grad():
        found.replica.module.norm.weight[0] = poison
    before = {name: t.clone() for name, t in found.replica.module.state_dict().items()}
    with pytest.raises(NumericsError, match="not finite"):
        train_step(found, batch(), rates=RATES)
    for name, tensor in found.replica.module.state_dict().items():
        assert torch.equal(tensor.nan_to_num(), before[name].nan_to_num()), name
    assert int(found.optimizers.state_tensors()["updates"]) == 0
