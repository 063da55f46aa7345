"""The rate of matrix products that this device can reach, the denominator of MFU."""

import statistics
import time

import torch

from yxanul.cards import card_of_device


def peak_flops(device: torch.device, dtype: torch.dtype) -> float | None:
    """Return FLOP/s: a card's dense bf16 peak, a CPU's measured one; None: unknown card."""
    if device.type == "cpu":
        return gemm_flops(dtype)
    card = card_of_device(torch.cuda.get_device_name(device))
    return card.dense_bf16_flops if card else None


def gemm_flops(dtype: torch.dtype, *, repeats: int = 20, limit_s: float = 0.5) -> float:
    """Return the median FLOP/s of (2048, 768) x (768, 3072) on the CPU, threads as set.

    A CPU that is slow in `dtype` gives fewer repeats, at least three: no start waits for seconds.
    """
    generator = torch.Generator().manual_seed(0)
    left = torch.randn(2048, 768, generator=generator).to(dtype)
    right = torch.randn(768, 3072, generator=generator).to(dtype)
    seconds: list[float] = []
    while len(seconds) < repeats and (len(seconds) < 3 or sum(seconds) < limit_s):
        begin = time.perf_counter()
        torch.mm(left, right)
        seconds.append(time.perf_counter() - begin)
    return 2 * 2048 * 768 * 3072 / statistics.median(seconds)
