"""Turns every `auto` of the configuration into a fixed choice, by rule from the device.

The choices are made once, written into RUN/config.yaml and kept on resume, so that a resumed run
computes what the unbroken one would have. Nothing here is timed: the same machine always chooses
the same.
"""

import os
import re
from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import torch

from yxanul.config.optimization import (
    CARD_PATHS,
    CPU_MICRO_BATCH_TOKENS,
    LOSS_CHUNK_TOKENS,
    MASKLESS,
    PLAIN_UP_TO,
)
from yxanul.config.schema import ComputeConfig
from yxanul.errors import InfrastructureError, UsageError, YxanulError, first_line, in_words
from yxanul.hardware.compiler import compile_obstacle
from yxanul.hardware.device import cores_per_process, cpu_flags

BF16_FLAGS = frozenset({"avx512_bf16", "amx_bf16", "bf16"})
"""Flags of CPUs that multiply bf16 themselves."""

DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}
"""The types behind the names of `compute.precision`."""

HIDING = "CUDA_VISIBLE_DEVICES"
"""The variable by which a person hides cards."""

# What schedulers and people write there for no card; another word is more likely a mistake.
_NO_CARD = re.compile(r"|-\d+|none|void|NoDevFiles", re.IGNORECASE)
_DEVICES = Path("/dev")  # where NVIDIA's driver shows cards, whatever torch makes of them
_WINDOWS = Path("/usr/lib/wsl/lib")  # and where Windows puts that driver, under WSL

_FP8_CAPABILITY = (8, 9)
_BF16_CAPABILITY = (8, 0)
_HOPPER = (9, 0)
_UNSOUND_CUDNN = 91500  # up to which torch's own choice (sdp_utils.cpp) puts other kernels first
FLASH3_MODULE = "flash_attn_interface"
"""The module of FlashAttention 3 (arXiv 2407.08608); the package flash-attn is version 2."""
_HALF_ONLY = ("cudnn", *MASKLESS)  # kernels without a form for fp32


def pick_device(local_rank: int = 0) -> torch.device:
    """Return this process's device: its CUDA card if the machine has cards, else the CPU.

    More processes than cards are a `UsageError`. No card is touched: one that fails or hangs does
    so at its first use.
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


def usable_device(local_rank: int = 0) -> torch.device:
    """Return `pick_device`'s, which is then used: whoever calls it names a card that fails.

    A card that this torch does not use is the error of `unused_card`, one that it was not built for
    a `UsageError`.
    """
    device = pick_device(local_rank)
    error = unused_card() or foreign_card(device)
    if error is not None:
        raise error
    return device


def hides_cards() -> bool:
    """Tell whether a person has hidden all cards, and so wants the CPU.

    CUDA shows those that are named before the first that is no card.
    """
    shown = os.environ.get(HIDING)
    return shown is not None and bool(_NO_CARD.fullmatch(shown.partition(",")[0].strip()))


def unused_card() -> YxanulError | None:
    """Return the error that it is if torch uses no card of a machine that has one; None: it does.

    So it is of a machine without one, and of cards that a person hides. A container may be given
    any of a machine's cards, by its number there, and lack the driver's libraries. What another
    torch or driver cures is a `UsageError`, as those are, what another start may cure (a card that
    fails, a driver that is not up yet) an `InfrastructureError`.
    """
    cards = sorted(_DEVICES.glob("nvidia[0-9]*"))
    if any(_WINDOWS.glob("libcuda.so*")):  # else what stands there may be a card of another make
        cards += _DEVICES.glob("dxg")
    if not cards or torch.cuda.is_available() or hides_cards():
        return None
    kind: type[YxanulError] = UsageError
    anew = "set up anew (make clean, then make setup)"
    if torch.version.cuda is None:
        why = f"it is a build without CUDA; {anew} with one that has it (pytorch.org/get-started)"
    elif "too old" in (said := _cuda_says()):
        why = (
            f"{said}; it was built for CUDA {torch.version.cuda}: install a newer driver, or "
            f"{anew} with a torch for an older CUDA (PIP_EXTRA_INDEX_URL=its index)"
        )
    elif "Found no NVIDIA driver" in said:
        why = (
            f"{said}; start the container with it (docker run --gpus all, and "
            "NVIDIA_DRIVER_CAPABILITIES=compute,utility), or install it"
        )
    else:
        kind = InfrastructureError
        why = (
            f"{said}; look with nvidia-smi and dmesg whether the card and its driver work, and "
            f"whether {HIDING} names a card"
        )
    return kind(
        f"there is a card ({cards[0]}), and torch {torch.__version__} does not use it: {why}; or "
        f"take the CPU with {HIDING}= (empty)"
    )


def _cuda_says() -> str:
    """Return why CUDA does not start, of which `is_available` makes a mere no."""
    try:
        torch.cuda.init()  # type: ignore[no-untyped-call]
    except RuntimeError as error:
        return in_words(error)
    return "CUDA has only just come up"


def foreign_card(device: torch.device) -> UsageError | None:
    """Return the error that it is if no kernel of this torch runs on the card; None: they do.

    torch itself only warns, and the first kernel would fail as on a card that is broken.
    """
    built_for = torch.cuda.get_arch_list()
    if device.type != "cuda" or torch.version.cuda is None or not built_for:
        return None  # also AMD's cards, whose names have another order
    capability = torch.cuda.get_device_capability(device)
    if any(_runs_on(capability, code) for code in built_for):
        return None
    major, minor = capability
    return UsageError(
        f"{torch.cuda.get_device_name(device)} is an sm_{major}{minor}, and torch "
        f"{torch.__version__} has no kernels for it, only for {', '.join(built_for)}; install a "
        "build that has (pytorch.org/get-started), take another card, or the CPU with "
        f"{HIDING}= (empty)"
    )


def _runs_on(capability: tuple[int, int], code: str) -> bool:
    """Tell whether code for an architecture runs on a card: sm_80, sm_90a, compute_90, ..."""
    kind, _, name = code.partition("_")
    number = name.rstrip("af")
    built_for = int(number[:-1]), int(number[-1])
    if name.endswith("a"):  # what only that architecture has
        return capability == built_for
    if kind == "compute" and not name.endswith("f"):  # PTX, which the driver compiles
        return capability >= built_for
    # Binaries run on later cards of the same generation.
    return capability[0] == built_for[0] and capability >= built_for


def processes_here() -> int:
    """Return how many processes train on this machine: one per card, and one without cards."""
    return max(1, torch.cuda.device_count())


def freeze_compute(
    compute: ComputeConfig, device: torch.device, *, longest_seq_len: int
) -> ComputeConfig:
    """Return what `settle_compute` does; what this device cannot do is a `UsageError`."""
    chosen = settle_compute(compute, device, longest_seq_len=longest_seq_len)
    _refuse_impossible(chosen, device)
    return chosen


def settle_compute(
    compute: ComputeConfig, device: torch.device, *, longest_seq_len: int
) -> ComputeConfig:
    """Return `compute` with every `auto` and null replaced by a choice; nothing is refused.

    The tokens of a pass on a card, if open, are not for long: what fits it is tried or reckoned.
    """
    precision = precision_by_rule(device) if compute.precision == "auto" else compute.precision
    attention: str = compute.attention
    compute = compute.model_copy(update={"precision": precision})
    if attention == "auto":
        attention = attention_by_rule(compute, device, longest_seq_len=longest_seq_len)
    version_3: str | bool = compute.flash_attention_3
    if version_3 == "auto":
        version_3 = attention == "flash3"
    chunk = compute.loss_chunk_tokens or LOSS_CHUNK_TOKENS[device.type]
    return compute.model_copy(
        update={
            "precision": precision,
            "attention": attention,
            "flash_attention_3": version_3,
            "compile": compile_by_rule(device) if compute.compile == "auto" else compute.compile,
            "loss_chunk_tokens": chunk,
            "threads": compute.threads or cores_per_process(),
            "fp8": "off" if compute.fp8 == "auto" else compute.fp8,
            "checkpointed_share": compute.checkpointed_share or 1.0,
            "micro_batch_tokens": compute.micro_batch_tokens or CPU_MICRO_BATCH_TOKENS,
        }
    )


def attention_obstacle(compute: ComputeConfig, device: torch.device) -> str | None:
    """Return why the attention path cannot run here in this precision, and what to do, or None."""
    attention = compute.attention
    obstacle = _loading_obstacle(device) if attention == "flash3" else None
    if obstacle is not None:
        return f"{obstacle}; set compute.flash_attention_3=auto and compute.attention=auto"
    if attention in CARD_PATHS and device.type != "cuda":
        return "needs a CUDA card, and this machine has none; set compute.attention=auto"
    if attention in _HALF_ONLY and compute.precision == "fp32":
        other = "flash_attention_3=auto" if attention == "flash3" else "attention=auto"
        bf16 = "" if _is_before_bf16(device) else " or compute.precision=bf16"
        return f"has no fp32 form; set compute.{other}{bf16}"
    if _lacks_bf16(compute, device):
        return (
            "has no bf16 form for cards below compute capability 8.0, as this one is; set "
            "compute.precision=auto and compute.attention=auto, or take a later card (RTX 30, "
            "A100, L4, H100)"
        )
    if attention == "cudnn" and not has_sound_cudnn():
        return (
            "is not right for rows that 128 does not divide, as scores have, up to cuDNN "
            f"{_UNSOUND_CUDNN}, and this one is {_cudnn_version()}; set compute.attention=auto"
        )
    if attention == "cudnn" and compute.document_masking:
        return (
            "cannot keep documents apart, and compute.document_masking is true; set "
            "compute.attention=auto or compute.document_masking=false"
        )
    return None


def _lacks_bf16(compute: ComputeConfig, device: torch.device) -> bool:
    """Tell whether the kernel is a card's and multiplies bf16, which this card is too old for."""
    is_asked = compute.attention in CARD_PATHS and compute.precision == "bf16"
    return is_asked and _is_before_bf16(device)


def _is_before_bf16(device: torch.device) -> bool:
    on_card = device.type == "cuda"
    return on_card and torch.cuda.get_device_capability(device) < _BF16_CAPABILITY


def flash3_obstacle(device: torch.device) -> str | None:
    """Return why FlashAttention 3 cannot run here; None: it can, if its module can be loaded."""
    if device.type != "cuda" or torch.cuda.get_device_capability(device) != _HOPPER:
        return "runs on Hopper cards only (H100, H200), and this machine has none"
    if find_spec(FLASH3_MODULE) is None:
        return (
            f"needs the module {FLASH3_MODULE}, which is not installed (it is built from the "
            "folder hopper of Dao-AILab/flash-attention on GitHub)"
        )
    return None


def _loading_obstacle(device: torch.device) -> str | None:
    """Return why FlashAttention 3 cannot run or be loaded here; its module is loaded for that."""
    obstacle = flash3_obstacle(device)
    if obstacle is not None:
        return obstacle
    try:
        import_module(FLASH3_MODULE)
    except Exception as error:  # noqa: BLE001  (whatever a build for another torch raises)
        return f"cannot be loaded ({FLASH3_MODULE}): {type(error).__name__}: {first_line(error)}"
    return None


def fp8_obstacle(compute: ComputeConfig, device: torch.device) -> str | None:
    """Return why FP8 cannot run here, and what to do; None: it can."""
    able = device.type == "cuda" and torch.cuda.get_device_capability(device) >= _FP8_CAPABILITY
    if not able and not compute.fp8_emulate:
        return (
            "needs a card of compute capability 8.9 or higher (RTX 4090, L40S, H100), and this "
            "machine has none; set compute.fp8=off, or compute.fp8_emulate=true to try its rounding"
        )
    if find_spec("torchao") is None:
        return "needs the package torchao: pip install 'yxanul[fp8]', or set compute.fp8=off"
    return None


def impossible_choices(compute: ComputeConfig, device: torch.device) -> Iterator[str]:
    """Yield the names of settings, all of them chosen, that cannot be on this device."""
    if _lacks_bf16(compute, device):
        yield "precision"
    if attention_obstacle(compute, device) is not None:
        yield "attention"
    if compute.fp8 in ("ffn", "blocks") and fp8_obstacle(compute, device) is not None:
        yield "fp8"
    if compute.compile in ("block", "model") and compile_obstacle(device) is not None:
        yield "compile"


def precision_by_rule(device: torch.device) -> str:
    """bf16 where the hardware multiplies it, fp32 where it would be emulated slowly."""
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    return "bf16" if cpu_flags() & BF16_FLAGS else "fp32"


def attention_by_rule(compute: ComputeConfig, device: torch.device, *, longest_seq_len: int) -> str:
    """Return the attention path that is fast for rows of up to that many tokens."""
    if compute.flash_attention_3 is True:
        return "flash3"
    if device.type == "cpu":
        return "plain" if longest_seq_len <= PLAIN_UP_TO else "by_length"
    if compute.precision == "fp32":
        return "efficient"  # the only fused kernel that takes fp32
    is_new = torch.cuda.get_device_capability(device) >= _HOPPER
    # It cannot keep documents apart.
    return "cudnn" if is_new and has_sound_cudnn() and not compute.document_masking else "flash"


def leaves_kernel_open(wish: ComputeConfig, settled: ComputeConfig) -> bool:
    """Tell whether a run's first start on a card times the attention kernels: fp32 has but one."""
    is_open = wish.attention == "auto" and wish.flash_attention_3 is not True
    return is_open and settled.precision == "bf16"


def has_sound_cudnn() -> bool:
    """Tell whether cuDNN's attention is right for rows that 128 does not divide, as scores have."""
    return _cudnn_version() > _UNSOUND_CUDNN


def _cudnn_version() -> int:
    found: int | None = torch.backends.cudnn.version()  # type: ignore[no-untyped-call]
    return found or 0


def compile_by_rule(device: torch.device) -> str:
    """Each block on a card that can compile: as fast as the whole model, and ready far sooner."""
    return "block" if device.type == "cuda" and compile_obstacle(device) is None else "off"


def _refuse_impossible(compute: ComputeConfig, device: torch.device) -> None:
    obstacle = attention_obstacle(compute, device)
    if obstacle is not None:
        raise UsageError(f"compute.attention={compute.attention} {obstacle}")
    if compute.fp8 in ("ffn", "blocks"):
        obstacle = fp8_obstacle(compute, device)
        if obstacle is not None:
            raise UsageError(f"compute.fp8={compute.fp8} {obstacle}")
    wanted = compute.compile in ("block", "model")
    obstacle = compile_obstacle(device) if wanted else None
    if obstacle is not None:
        raise UsageError(
            f"compute.compile={compute.compile} {obstacle}, or set compute.compile=off"
        )
