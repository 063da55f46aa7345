"""Rows about the machine itself: device, memory, threads, processes."""

import torch

from yxanul.cores import usable_cores
from yxanul.hardware.choices import foreign_card, unused_card
from yxanul.hardware.device import device_name, memory_bytes
from yxanul.hardware.feature import Case, Feature
from yxanul.hardware.memory import GROWING, allocator_settings
from yxanul.hardware.peak import peak_flops
from yxanul.units import format_bytes


def device(case: Case) -> Feature:
    """The device that a run uses."""
    why = f"{device_name(case.device)}, {format_bytes(memory_bytes(case.device))} of memory"
    if case.device.type == "cuda":
        peak = peak_flops(case.device, torch.bfloat16)
        told = "not known, so there is no MFU" if peak is None else f"{peak / 1e12:,.0f} TFLOP/s"
        why += f", dense bf16 peak {told}"
    return Feature("device", "active", why, choice=str(case.device))


def cuda(case: Case) -> Feature:
    """CUDA, or why there is none."""
    error = unused_card() or foreign_card(case.device)
    if error is not None:
        # Of a card that is there and not hidden: a run that begins here would be refused.
        return Feature("CUDA", "unavailable", str(error), asked=True)
    if case.device.type == "cuda":
        return Feature("CUDA", "active", f"torch {torch.__version__} sees {_cards()}")
    if torch.version.cuda is None:
        why = f"torch {torch.__version__} is a build without CUDA; a card needs another build"
        return Feature("CUDA", "unavailable", why)
    why = f"torch {torch.__version__} finds no card on this machine"
    return Feature("CUDA", "unavailable", why)


def threads(case: Case) -> Feature:
    """CPU threads of one process."""
    count, cores = case.optimization.compute.threads, usable_cores()
    why = f"per process, of {cores} usable core{'s' * (cores != 1)}"
    return Feature("threads", "active", why, choice=str(count))


def freed_memory(case: Case) -> Feature:
    """Thresholds of glibc's malloc."""
    name, asked = "freed memory kept", case.optimization.compute.keep_freed_memory
    if case.malloc == "active":
        why = "malloc's thresholds are raised (mallopt), so freed memory is not faulted in again"
        return Feature(name, "active", why, asked=asked)
    if case.malloc == "off":
        why = "set compute.keep_freed_memory=true (mallopt, on glibc)"
        return Feature(name, "available", why)
    why = f"{case.malloc}; set compute.keep_freed_memory=false"
    return Feature(name, "unavailable", why, asked=asked)


def allocator(case: Case) -> Feature:
    """Settings of torch's allocator on a card."""
    name, settings = "CUDA allocator", allocator_settings()
    if case.device.type != "cuda":
        return Feature(name, "unavailable", "there is no card, whose memory it shares out")
    if settings is None:
        why = f"set PYTORCH_ALLOC_CONF={GROWING}, as the program yxanul does"
        return Feature(name, "available", why)
    variable, value = settings
    grow = "segments grow, so pieces of another phase fit" if GROWING in value else "as asked"
    return Feature(name, "active", f"{grow} ({variable})", choice=value)


def processes(case: Case) -> Feature:
    """Data parallelism."""
    name, on_card = "data parallel (DDP)", case.device.type == "cuda"
    backend = "nccl" if on_card else "gloo"
    if case.world_size > 1:
        why = f"gradients are averaged over {backend}"
        return Feature(name, "active", why, choice=f"{case.world_size} processes", asked=True)
    if on_card and torch.cuda.device_count() == 1:
        return Feature(name, "unavailable", "there is one card, and a process needs its own")
    start = "starts one per card" if on_card else "with NPROC=2 starts two"
    why = f"one process; scripts/train_stage1.sh {start} through torchrun ({backend})"
    return Feature(name, "available", why)


def bus(case: Case) -> Feature:
    """How processes reach one another, as measured, and what the driver says of cards."""
    name = "direct bus between cards"
    if case.bus_bytes_per_s is not None:
        rate = f"{case.bus_bytes_per_s / 1e9:.2f} GB/s in an all-reduce, just measured"
        if case.device.type == "cuda":
            return Feature(name, "active", rate)
        return Feature(name, "unavailable", f"there is no card; between the processes {rate}")
    if case.device.type != "cuda":
        return Feature(name, "unavailable", "there is no card")
    if torch.cuda.device_count() == 1:
        return Feature(name, "unavailable", "there is one card")
    if not torch.cuda.can_device_access_peer(0, 1):
        why = "cards 0 and 1 reach each other through the host only"
        return Feature(name, "unavailable", why)
    why = "cards 0 and 1 reach each other directly; a run of several processes measures its rate"
    return Feature(name, "available", why)


def _cards() -> str:
    count = torch.cuda.device_count()
    return f"{count} card{'s' * (count != 1)}"
