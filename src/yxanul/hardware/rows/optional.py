"""Rows about optional packages and engines, found by their metadata and not imported.

Each says what this version does about the package, not only whether it is there.
"""

from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec

from yxanul.hardware.choices import (
    FLASH3_MODULE,
    attention_obstacle,
    flash3_obstacle,
    fp8_obstacle,
)
from yxanul.hardware.feature import Case, Feature


def installed(package: str) -> str:
    """Return "package 1.2 is installed" or "package is not installed"."""
    try:
        return f"{package} {version(package)} is installed"
    except PackageNotFoundError:
        return f"{package} is not installed"


def fp8(case: Case) -> Feature:
    """8-bit matrix products."""
    compute = case.left_open
    asked = compute.fp8 not in ("off", "auto")
    obstacle = fp8_obstacle(compute, case.device)
    if obstacle is not None:
        return Feature("FP8", "unavailable", f"compute.fp8 {obstacle}", asked=asked)
    if asked:
        how = "emulated, slow" if compute.fp8_emulate else "as fast as the card"
        why = f"products of that part in training, {compute.fp8_recipe} scales, {how}"
        return Feature("FP8", "active", why, compute.fp8, asked=True)
    if compute.fp8 == "auto":
        why = "timed at the first start, and on in what part it makes faster"
        return Feature("FP8", "available", why, "auto")
    if case.has_begun and case.wish is not None and case.wish.fp8 == "auto":
        why = "as the run has chosen: timed, no part of it paid, or a process cannot have it"
        return Feature("FP8", "available", why, "off")
    why = "compute.fp8=auto times it at the first start; it did not pay at width 768"
    return Feature("FP8", "available", why)


def flash_attention_3(case: Case) -> Feature:
    """FlashAttention 3's own package, which is not the package flash-attn."""
    name, compute = "FlashAttention 3", case.optimization.compute
    asked = compute.attention == "flash3"
    # Only what is asked for is loaded to see whether it can be.
    obstacle = attention_obstacle(compute, case.device) if asked else flash3_obstacle(case.device)
    if obstacle is not None:
        why = (
            f"it {obstacle}. The package flash-attn is FlashAttention 2 "
            f"({installed('flash-attn')}), which torch has itself: compute.attention=flash"
        )
        return Feature(name, "unavailable", why, asked=asked)
    if asked:
        return Feature(name, "active", f"{FLASH3_MODULE}, through torch", asked=True)
    why = "compute.flash_attention_3=auto times it with the other kernels at the first start"
    return Feature(name, "available", why)


def apex(_case: Case) -> Feature:
    """NVIDIA Apex, whose two kernels that matter here have replacements."""
    why = (
        "replaced: torch's fused AdamW stands for its fused Adam, and the norms are torch "
        "operations, which torch.compile can fuse"
    )
    return Feature("Apex", "unavailable", why)


def deepspeed(case: Case) -> Feature:
    """The DeepSpeed engine."""
    asked, found = case.optimization.compute.engine == "deepspeed", installed("deepspeed")
    if find_spec("deepspeed") is None:
        why = f"{found}: pip install 'yxanul[deepspeed]'; torch's own engine does without"
        return Feature("DeepSpeed", "unavailable", why, asked=asked)
    if not asked:
        why = f"{found}; --deepspeed FILE trains with its ZeRO-1, torch's own engine does without"
        return Feature("DeepSpeed", "available", why)
    why = f"{found}; it averages gradients and drives AdamW"
    return Feature("DeepSpeed", "active", why, asked=True)


def zero1(case: Case) -> Feature:
    """Optimizer state shared between ranks."""
    compute = case.optimization.compute
    asked = compute.zero1 or compute.engine == "deepspeed"
    if case.world_size == 1:
        why = "one process, which keeps the whole state"
        return Feature("ZeRO-1", "unavailable", why, asked=asked)
    if not asked:
        why = "compute.zero1=true shares the optimizer's state and work among the processes"
        return Feature("ZeRO-1", "available", why)
    why = "each process holds and moves its part of the parameters"
    return Feature("ZeRO-1", "active", why, choice=f"over {case.world_size}", asked=True)


def liger(_case: Case) -> Feature:
    """Liger's Triton kernels."""
    why = (
        f"this version never calls them: the chunked loss is its own "
        f"({installed('liger-kernel')}, and its kernels run on cards only)"
    )
    return Feature("Liger kernels", "unavailable", why)
