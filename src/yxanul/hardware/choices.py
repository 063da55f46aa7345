"""Turns every `auto` of the configuration into a fixed choice, by rule from the device.

The choices are made once, written into RUN/config.yaml and kept on resume, so that a resumed run
computes what the unbroken one would have. Nothing here is timed: the same machine always chooses
the same.
"""

import os
import platform
import shutil
from pathlib import Path

import torch

from yxanul.config.schema import ComputeConfig, ModelConfig
from yxanul.errors import UsageError

DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}
"""The types behind the names of `compute.precision`."""

# Bounds the activations of the 303M-parameter flagship on a CPU to about 2 GiB in bf16.
_CPU_MICRO_BATCH_TOKENS = 2048
# Bytes of activations per token, layer and channel of hidden_size, from 31 KB at 768 (bf16, no
# checkpointing).
_ACTIVATION_BYTES = 41


def pick_device(local_rank: int = 0) -> torch.device:
    """Return this process's device: its CUDA card if the machine has cards, else the CPU.

    More processes than cards are a `UsageError`.
    """
    if not torch.cuda.is_available():
        return torch.device("cpu")
    cards = torch.cuda.device_count()
    if local_rank >= cards:
        raise UsageError(
            f"this is process {local_rank + 1} on a machine with {cards} CUDA card(s); "
            f"start at most {cards} with torchrun --nproc_per_node"
        )
    return torch.device("cuda", local_rank)


def freeze_compute(
    compute: ComputeConfig,
    model: ModelConfig,
    *,
    parameters: int,
    device: torch.device,
    longest_seq_len: int,
) -> ComputeConfig:
    """Return `compute` with every `auto` and null replaced by a choice for a model of that size.

    What this device cannot do is a `UsageError`.
    """
    precision = native_precision(device) if compute.precision == "auto" else compute.precision
    attention: str = compute.attention
    if attention == "auto":
        attention = _attention(device, precision, longest_seq_len=longest_seq_len)
    _refuse_impossible(compute, device, precision=precision)
    return compute.model_copy(
        update={
            "precision": precision,
            "attention": attention,
            "threads": compute.threads or _usable_cores(),
            "micro_batch_tokens": compute.micro_batch_tokens
            or _micro_batch_tokens(device, model, parameters=parameters),
        }
    )


def native_precision(device: torch.device) -> str:
    """Return bf16 where the hardware multiplies it, fp32 where it would be emulated slowly."""
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    return "bf16" if cpu_flags() & {"avx512_bf16", "amx_bf16", "bf16"} else "fp32"


def cpu_flags() -> frozenset[str]:
    """Return the CPU's feature flags as Linux names them; empty elsewhere."""
    path = Path("/proc/cpuinfo")
    if platform.system() != "Linux" or not path.exists():
        return frozenset()
    for line in path.read_text().splitlines():
        if line.startswith(("flags", "Features")):
            return frozenset(line.partition(":")[2].split())
    return frozenset()


def _refuse_impossible(compute: ComputeConfig, device: torch.device, *, precision: str) -> None:
    attention = compute.attention
    if attention in ("cudnn", "flash", "efficient") and device.type != "cuda":
        raise UsageError(
            f"compute.attention={attention} needs a CUDA card, and this machine has none; "
            "set compute.attention=auto"
        )
    if attention in ("cudnn", "flash") and precision == "fp32":
        raise UsageError(
            f"compute.attention={attention} has no fp32 form; "
            "set compute.attention=auto or compute.precision=bf16"
        )
    if compute.compile != "off" and device.type == "cpu" and not _has_compiler():
        raise UsageError(
            f"compute.compile={compute.compile} needs a C++ compiler (g++ or clang++), and this "
            "machine has none; install one or set compute.compile=off"
        )


def _attention(device: torch.device, precision: str, *, longest_seq_len: int) -> str:
    if device.type == "cpu":
        return "plain" if longest_seq_len <= 1024 else "sdpa"
    if precision == "fp32":
        return "efficient"  # the only fused kernel that takes fp32
    return "cudnn" if torch.cuda.get_device_capability(device) >= (9, 0) else "flash"


def _usable_cores() -> int:
    """Return the cores that this process may run on: a container often has fewer than the host."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _micro_batch_tokens(device: torch.device, model: ModelConfig, *, parameters: int) -> int:
    """Return a power of two, at most 65,536, that fits 80 % of a card beside the weights."""
    if device.type == "cpu":
        return _CPU_MICRO_BATCH_TOKENS
    total = torch.cuda.get_device_properties(device).total_memory
    per_token = _ACTIVATION_BYTES * model.num_hidden_layers * model.hidden_size
    tokens = max(1024, int((0.8 * total - 18 * parameters) / per_token))
    return min(65536, 1 << (tokens.bit_length() - 1))


def _has_compiler() -> bool:
    names = [os.environ.get("CXX", ""), "g++", "clang++"]
    return any(shutil.which(name) for name in names if name)
