"""A run times this machine's matrix products when it starts; for tests once is enough.

It is a tenth of what a small run takes, and a fifth of its start.
"""

import functools

import torch

from yxanul.hardware import doctor, peak


def time_products_once() -> None:
    """Let all runs of this process, and of its forks, share what the first one measures."""
    peak.gemm_flops = doctor.gemm_flops = functools.cache(peak.gemm_flops)


def time_products_now() -> None:
    """Measure what runs ask for, so that forks of this process begin with it."""
    time_products_once()
    known = {"fp32": peak.gemm_flops(torch.float32)}
    doctor.measure_rates(torch.device("cpu"), known=known)
