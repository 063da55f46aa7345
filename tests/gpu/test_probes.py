"""What a run tries on a card before its first step: run with `pytest -m gpu`."""

import math
from types import SimpleNamespace

import pytest
import torch

from tests.model.tiny import shape
from yxanul.config.schema import ComputeConfig, OptimizationConfig
from yxanul.hardware.choices import flash3_obstacle, fp8_obstacle, freeze_compute
from yxanul.parallel.processes import ALONE
from yxanul.train.probing.kernels import fastest_kernel
from yxanul.train.probing.probes import trial_bytes, update_ms

CARD = torch.device("cuda", 0)
WORKSPACE = 2**27
"""Bytes that cuBLAS keeps for itself once it was called."""

pytestmark = [
    pytest.mark.filterwarnings("default"),  # torch.compile warns about torch's own code
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no CUDA card"),
]


def optimization(tokens: int) -> OptimizationConfig:
    wish = ComputeConfig(micro_batch_tokens=tokens, compile="off")
    chosen = freeze_compute(wish, CARD, longest_seq_len=32)
    return OptimizationConfig(compute=chosen)


def held(tokens: int, passes: int = 1) -> float:
    return trial_bytes(shape(), optimization(tokens), seq_len=32, device=CARD, passes=passes)


def test_a_trial_tells_the_memory_it_took_and_leaves_none_behind():
    few, many, twice = held(64), held(8192), held(8192, passes=2)
    assert 0 < few < many <= twice < math.inf
    assert torch.cuda.memory_allocated(CARD) < WORKSPACE


def test_a_trial_beyond_the_card_is_infinite_and_leaves_none_behind():
    total = torch.cuda.get_device_properties(CARD).total_memory
    torch.cuda.set_per_process_memory_fraction(1e8 / total, CARD)
    try:
        assert held(2**20) == math.inf
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, CARD)
    assert torch.cuda.memory_allocated(CARD) < WORKSPACE


@pytest.mark.parametrize("masked", [False, True])
def test_the_fastest_kernel_is_one_of_the_pinned_and_its_time_is_told(masked):
    told: list[str] = []
    voice = SimpleNamespace(say=told.append)
    machine = SimpleNamespace(device=CARD, processes=ALONE, progress=voice)
    names = ["flash"] if masked else ["cudnn", "flash"]
    if flash3_obstacle(CARD) is None:
        names.append("flash3")
    documents = 128 if masked else None
    kernel = fastest_kernel(names, shape(), seq_len=512, machine=machine, document_tokens=documents)
    assert kernel in names
    assert "ms" in told[-1]


@pytest.mark.parametrize("part", ["off", "ffn", "blocks"])
def test_an_update_is_timed_with_products_of_eight_bits(part):
    wish = ComputeConfig(fp8=part)
    if part != "off" and fp8_obstacle(wish, CARD) is not None:
        pytest.skip(f"FP8 {fp8_obstacle(wish, CARD)}")
    chosen = optimization(1024)
    chosen = chosen.model_copy(update={"compute": chosen.compute.model_copy(update={"fp8": part})})
    assert 0 < update_ms(shape(), chosen, seq_len=32, device=CARD) < math.inf
    assert torch.cuda.memory_allocated(CARD) < WORKSPACE
