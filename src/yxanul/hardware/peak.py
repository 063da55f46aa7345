"""The rate of matrix products that this device can reach, the denominator of MFU."""

import statistics
import time

import torch

from yxanul.cards import card_of_device

# The product whose rate stands for a CPU's peak (docs/decisions.md), and when it is too slow.
_ROWS, _FEW_ROWS = 2048, 16
GEMM_FLOPS = 2 * _ROWS * 768 * 3072
_SLOW_S = 1.0


def peak_flops(device: torch.device, dtype: torch.dtype) -> float | None:
    """Return FLOP/s: a card's dense bf16 peak, a CPU's measured one; None: unknown card."""
    if device.type == "cpu":
        return gemm_flops(dtype)
    card = card_of_device(torch.cuda.get_device_name(device))
    return card.dense_bf16_flops if card else None


def gemm_flops(dtype: torch.dtype, *, repeats: int = 20, limit_s: float = 0.5) -> float:
    """Return the median FLOP/s of (2048, 768) x (768, 3072) on the CPU, threads as set.

    It is that of up to `repeats` products, as many as limit_s allows, three at least. No start
    waits for seconds: a CPU that would need them, because it emulates `dtype`, is judged by 16 of
    the 2,048 rows.
    """
    generator = torch.Generator().manual_seed(0)
    left = torch.randn(_ROWS, 768, generator=generator).to(dtype)
    right = torch.randn(768, 3072, generator=generator).to(dtype)
    few = left[:_FEW_ROWS]
    # The first call warms up, and another process may hold up any of them: the fastest counts.
    few_s = min(_seconds(few, right) for _ in range(5))
    if few_s * _ROWS / _FEW_ROWS > _SLOW_S:
        return GEMM_FLOPS * _FEW_ROWS / _ROWS / few_s
    seconds: list[float] = []
    while len(seconds) < repeats and (len(seconds) < 3 or sum(seconds) < limit_s):
        seconds.append(_seconds(left, right))
    return GEMM_FLOPS / statistics.median(seconds)


def _seconds(left: torch.Tensor, right: torch.Tensor) -> float:
    begin = time.perf_counter()
    torch.mm(left, right)
    return time.perf_counter() - begin
