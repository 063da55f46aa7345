"""What only a CUDA card can show: run with `pytest -m gpu` on a machine that has one."""

import warnings

import numpy as np
import pytest
import torch
from torch._dynamo.utils import counters

from tests.model.tiny import difference, rows, shape
from yxanul.config.schema import ComputeConfig, OptimizerConfig
from yxanul.config.tokens import IGNORED
from yxanul.data.batches.loader import StepRows
from yxanul.hardware.choices import flash3_obstacle, fp8_obstacle
from yxanul.model.attention import attention_path, plain_attention
from yxanul.model.fp8 import use_fp8
from yxanul.model.loss import chunked_cross_entropy
from yxanul.model.transformer import Transformer
from yxanul.optim.optimizers import LearningRates, Optimizers
from yxanul.parallel.processes import ALONE
from yxanul.parallel.replica import TorchReplica
from yxanul.train.updates.step import Engine, train_step

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no CUDA card"),
]


@pytest.mark.parametrize("name", ["sdpa", "cudnn", "flash", "efficient"])
def test_each_pinned_kernel_agrees_with_plain_attention(name):
    q, k, v = torch.randn(3, 2, 4, 256, 64, device="cuda").unbind()
    wanted = plain_attention(q, k, v)
    found = attention_path(name)(*(t.bfloat16() for t in (q, k, v))).float()
    assert (found - wanted).abs().max() < 0.03 * wanted.abs().max()


@pytest.mark.filterwarnings("default")  # torch.compile warns about torch's own code
@pytest.mark.parametrize("kernel", ["flash", "flash3"])
@pytest.mark.parametrize("how", ["off", "block"])
def test_documents_read_by_themselves_train_as_behind_a_mask(kernel, how):
    """However many there are, nothing is compiled for their number."""
    card = torch.device("cuda", 0)
    obstacle = flash3_obstacle(card) if kernel == "flash3" else None
    if obstacle is not None:
        pytest.skip(f"FlashAttention 3 {obstacle}")

    def found(attention: str) -> list[float]:
        model = Transformer.initialised(
            shape(vocab_size=50_257, head_dim=64),
            seed=5,
            compute_dtype=torch.bfloat16,
            attention=attention,
            mask_documents=True,
        ).to(card)
        model.compile_training(how)
        nats = []
        for seed in range(4):
            inputs, targets = (part.numpy() for part in rows(8, 64, vocab=50_257, seed=seed))
            inputs[np.random.default_rng(seed).random(inputs.shape) < 0.02 * (seed + 1)] = 50_256
            batch = StepRows.whole(inputs, targets)
            bounds = torch.from_numpy(batch.bounds(slice(None))).to(card)
            loss = model(
                torch.from_numpy(inputs).to(card), torch.from_numpy(targets).to(card), bounds=bounds
            )
            loss.backward()
            nats += [loss.item(), model.embed_tokens.weight.grad.norm().item()]
        return nats

    wanted = found("efficient")
    torch.compiler.reset()
    counters.clear()
    assert found(kernel) == pytest.approx(wanted, rel=0.02)
    assert counters["stats"]["unique_graphs"] == (0 if how == "off" else 2)  # a block, the norm


def engine_on(
    device: str,
    dtype: torch.dtype,
    *,
    attention: str,
    compile_how: str = "off",
    fp8: str = "off",
    optimizer: str = "adamw",
) -> Engine:
    model = Transformer.initialised(
        shape(), seed=5, compute_dtype=dtype, attention=attention, loss_chunk_tokens=64
    ).to(device)
    if fp8 != "off":
        use_fp8(model.layers, "blocks", recipe=fp8)
    model.compile_training(compile_how)
    return Engine(
        replica=TorchReplica(model),
        optimizers=Optimizers(model, OptimizerConfig(name=optimizer), muon_dtype=dtype),
        processes=ALONE,
        device=torch.device(device),
        micro_batch_tokens=4096,
    )


def losses(device: str, dtype: torch.dtype, *, steps: int = 20, **options: str) -> list[float]:
    engine = engine_on(device, dtype, **options)
    rates = LearningRates(1e-3, 1e-3, 1e-3)
    batches = [tuple(part.numpy() for part in rows(8, 32, seed=seed)) for seed in range(steps)]
    return [train_step(engine, StepRows.whole(*batch), rates=rates).loss for batch in batches]


def test_the_padded_head_has_the_loss_and_gradients_of_the_plain_one():
    hidden, weight = torch.randn(300, 64), torch.randn(1001, 64) / 4
    targets = torch.randint(0, 1001, (300,))
    targets[::5] = IGNORED

    def found(device: str, dtype: torch.dtype):
        leaves = [t.to(device, copy=True).requires_grad_() for t in (hidden.to(dtype), weight)]
        loss = chunked_cross_entropy(*leaves, targets=targets.to(device), chunk_tokens=128)
        loss.backward()
        return [t.float().cpu() for t in (loss.detach(), *(leaf.grad for leaf in leaves))]

    wanted = found("cpu", torch.float32)
    for ours, plain in zip(found("cuda", torch.bfloat16), wanted, strict=True):
        assert difference(ours, plain) < 0.02


def test_bf16_on_the_card_follows_fp32_on_the_cpu():
    wanted = losses("cpu", torch.float32, attention="plain")
    assert losses("cuda", torch.bfloat16, attention="sdpa") == pytest.approx(wanted, rel=0.02)


@pytest.mark.filterwarnings("default")  # torch.compile warns about torch's own code
@pytest.mark.parametrize("how", ["block", "model"])
def test_compiled_training_follows_the_eager_one(how):
    eager = losses("cuda", torch.bfloat16, attention="sdpa")
    compiled = losses("cuda", torch.bfloat16, attention="sdpa", compile_how=how)
    assert compiled == pytest.approx(eager, rel=0.01)


@pytest.mark.filterwarnings("default")  # torch.compile warns about torch's own code
@pytest.mark.parametrize("how", ["off", "block"])
@pytest.mark.parametrize("recipe", ["tensorwise", "rowwise"])
def test_eight_bit_products_follow_bf16_over_50_steps(recipe, how):
    obstacle = fp8_obstacle(ComputeConfig(fp8="blocks"), torch.device("cuda", 0))
    if obstacle is not None:
        pytest.skip(f"FP8 {obstacle}")
    wanted = losses("cuda", torch.bfloat16, attention="sdpa", steps=50)
    found = losses("cuda", torch.bfloat16, attention="sdpa", compile_how=how, fp8=recipe, steps=50)
    assert found == pytest.approx(wanted, rel=0.02)
    assert found != wanted


@pytest.mark.filterwarnings("default")  # torch.compile warns about torch's own code
@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
@pytest.mark.parametrize("how", ["off", "block"])
def test_an_update_waits_for_the_card_once(how, optimizer):
    """When loss and norm are read; until then the host launches ahead of the card."""
    engine = engine_on(
        "cuda", torch.bfloat16, attention="sdpa", compile_how=how, optimizer=optimizer
    )
    rates = LearningRates(1e-3, 1e-3, 1e-3)
    batch = StepRows.whole(*(part.numpy() for part in rows(128, 64)))  # two forward passes
    for _ in range(2):  # kernels are loaded, graphs compiled and moments made
        train_step(engine, batch, rates=rates)
    torch.cuda.synchronize()
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            train_step(engine, batch, rates=rates)
        finally:
            torch.cuda.set_sync_debug_mode("default")
    waits = [w for w in told if "called a synchronizing CUDA operation" in str(w.message)]
    assert len(waits) == 1, [f"{w.filename}:{w.lineno}" for w in waits]
