"""What only a CUDA card can show: run with `pytest -m gpu` on a machine that has one."""

import warnings
from functools import cache

import numpy as np
import pytest
import torch
from torch._dynamo.utils import counters

from tests.model.learned import (
    RATES,
    Learned,
    assert_learned_alike,
    distances,
    engine_of,
    learned,
)
from tests.model.tiny import difference, gradients, model_with_norms, rows, shape
from yxanul.config.schema import ComputeConfig
from yxanul.config.tokens import IGNORED
from yxanul.data.batches.loader import StepRows
from yxanul.hardware.choices import flash3_obstacle, fp8_obstacle
from yxanul.model.attention import attention_path, document_layout, plain_attention
from yxanul.model.fp8 import use_fp8
from yxanul.model.loss import chunked_cross_entropy
from yxanul.model.transformer import Transformer
from yxanul.train.updates.step import train_step

CARD = torch.device("cuda", 0)

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no CUDA card"),
]


@pytest.mark.parametrize("name", ["sdpa", "cudnn", "flash", "efficient"])
@pytest.mark.parametrize("seq", [256, 1])
def test_each_pinned_kernel_agrees_with_plain_attention(name, seq):
    q, k, v = torch.randn(3, 2, 4, seq, 64, device="cuda").unbind()
    wanted = plain_attention(q, k, v)
    found = attention_path(name)(*(t.bfloat16() for t in (q, k, v))).float()
    assert (found - wanted).abs().max() < 0.03 * wanted.abs().max()


@pytest.mark.parametrize("kernel", ["flash", "flash3"])
def test_a_kernel_that_reads_documents_by_themselves_is_plain_attention_behind_a_mask(kernel):
    skip_without(kernel)
    begins = [0, 1, 90, 256, 512, 600, 768]  # of three rows; the second is one document
    bounds = torch.tensor(begins, dtype=torch.int32, device=CARD)
    leaves = [t.requires_grad_() for t in torch.randn(3, 3, 4, 256, 64, device=CARD).unbind()]
    slope = torch.randn(3, 4, 256, 64, device=CARD)

    def found(name: str, dtype: torch.dtype, *, masked: bool = True) -> list[torch.Tensor]:
        documents = document_layout(name)(bounds, torch.Size((3, 256))) if masked else None
        out = attention_path(name)(*(t.to(dtype) for t in leaves), documents=documents)
        return [out.detach().float(), *torch.autograd.grad(out, leaves, slope.to(dtype))]

    wanted = found("plain", torch.float32)
    for ours, masked, whole in zip(
        found(kernel, torch.bfloat16),
        wanted,
        found(kernel, torch.bfloat16, masked=False),
        strict=True,
    ):
        assert difference(ours, masked) < 0.03
        assert difference(whole, masked) > 0.3


@pytest.mark.filterwarnings("default")  # torch.compile warns about torch's own code
@pytest.mark.parametrize("kernel", ["flash", "flash3"])
@pytest.mark.parametrize("how", ["off", "block"])
def test_documents_read_by_themselves_train_as_behind_a_mask(kernel, how):
    """However many there are, nothing is compiled for their number."""
    skip_without(kernel)

    def found(attention: str, dtype: torch.dtype, *, compile_how: str = "off", masked: bool = True):
        model = model_with_norms(
            shape(vocab_size=50_257, head_dim=64),
            compute_dtype=dtype,
            attention=attention,
            mask_documents=masked,
        ).to(CARD)
        model.compile_training(compile_how)
        for seed in range(4):
            inputs, targets = (part.numpy() for part in rows(8, 64, vocab=50_257, seed=seed))
            inputs[np.random.default_rng(seed).random(inputs.shape) < 0.02 * (seed + 1)] = 50_256
            bounds = torch.from_numpy(StepRows.whole(inputs, targets).bounds(slice(None))).to(CARD)
            batch = (torch.from_numpy(part).to(CARD) for part in (inputs, targets))
            model.zero_grad()
            model(*batch, bounds=bounds if masked else None).backward()
            yield gradients(model)

    torch.compiler.reset()
    counters.clear()
    each = list(found(kernel, torch.bfloat16, compile_how=how))
    assert counters["stats"]["unique_graphs"] == (0 if how == "off" else 2)  # a block, the norm
    wanted = list(found("plain", torch.float32))
    for ours, masked, whole in zip(
        each, wanted, found("plain", torch.float32, masked=False), strict=True
    ):
        assert max(distances(ours, masked).values()) < 0.03
        assert distances(whole, masked)["layers.0.self_attn.q_proj.weight"] > 0.3


def skip_without(kernel: str) -> None:
    obstacle = flash3_obstacle(CARD) if kernel == "flash3" else None
    if obstacle is not None:
        pytest.skip(f"FlashAttention 3 {obstacle}")


def model_on(
    device: torch.device,
    dtype: torch.dtype,
    *,
    attention: str,
    compile_how: str = "off",
    fp8: str = "off",
) -> Transformer:
    model = model_with_norms(
        shape(), compute_dtype=dtype, attention=attention, loss_chunk_tokens=64
    ).to(device)
    if fp8 != "off":
        use_fp8(model.layers, "blocks", recipe=fp8)
    model.compile_training(compile_how)
    return model


@cache
def learned_in_fp32() -> Learned:
    return learned(model_on(torch.device("cpu"), torch.float32, attention="plain"))


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


@pytest.mark.filterwarnings("default")  # torch.compile warns about torch's own code
@pytest.mark.parametrize("how", ["off", "block", "model"])
def test_a_batch_is_learned_in_bf16_as_in_fp32_on_the_cpu(how):
    found = learned(model_on(CARD, torch.bfloat16, attention="sdpa", compile_how=how))
    assert_learned_alike(found, learned_in_fp32(), gradients_within=0.03)


@pytest.mark.filterwarnings("default")  # torch.compile warns about torch's own code
@pytest.mark.parametrize("how", ["off", "block"])
@pytest.mark.parametrize("recipe", ["tensorwise", "rowwise"])
def test_a_batch_is_learned_in_products_of_eight_bits_as_in_fp32_on_the_cpu(recipe, how):
    obstacle = fp8_obstacle(ComputeConfig(fp8="blocks"), CARD)
    if obstacle is not None:
        pytest.skip(f"FP8 {obstacle}")
    model = model_on(CARD, torch.bfloat16, attention="sdpa", compile_how=how, fp8=recipe)
    found, wanted = learned(model), learned_in_fp32()
    assert_learned_alike(found, wanted, gradients_within=0.2)
    name = "layers.0.self_attn.q_proj.weight"
    assert distances(found.gradients, wanted.gradients)[name] > 0.03  # more than bf16 rounds


@pytest.mark.filterwarnings("default")  # torch.compile warns about torch's own code
@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
@pytest.mark.parametrize("how", ["off", "block"])
def test_an_update_waits_for_the_card_once(how, optimizer):
    """When loss and norm are read; until then the host launches ahead of the card."""
    model = model_on(CARD, torch.bfloat16, attention="sdpa", compile_how=how)
    engine = engine_of(model, optimizer=optimizer)
    batch = StepRows.whole(*(part.numpy() for part in rows(128, 64)))  # two forward passes
    for _ in range(2):  # kernels are loaded, graphs compiled and moments made
        train_step(engine, batch, rates=RATES)
    torch.cuda.synchronize()
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            train_step(engine, batch, rates=RATES)
        finally:
            torch.cuda.set_sync_debug_mode("default")
    waits = [w for w in told if "called a synchronizing CUDA operation" in str(w.message)]
    assert len(waits) == 1, [f"{w.filename}:{w.lineno}" for w in waits]
