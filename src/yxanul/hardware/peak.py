"""The rate of matrix products that this device can reach, the denominator of MFU."""

import statistics
import time

import torch

# Dense bf16 peaks, FLOP/s, from NVIDIA's data sheets (never the figures with sparsity).
_DENSE_BF16 = {
    "A100": 312e12,
    "H100 PCIe": 756e12,
    "H100": 989e12,
    "H200": 989e12,
    "B200": 2250e12,
    "L40S": 362e12,
    "RTX 3090": 71e12,
    "RTX 4090": 165e12,
    "RTX 5090": 210e12,
}


def peak_flops(device: torch.device, dtype: torch.dtype) -> float | None:
    """Return FLOP/s: a card's dense bf16 peak, a CPU's measured one; None: unknown card."""
    if device.type == "cpu":
        return gemm_flops(dtype)
    name = torch.cuda.get_device_name(device)
    known = sorted((key for key in _DENSE_BF16 if key in name), key=len)
    return _DENSE_BF16[known[-1]] if known else None


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
