"""What a device is called, how much it holds, what its processor can do."""

import hashlib
import os
import platform
import resource
import sys
from dataclasses import dataclass
from pathlib import Path

import torch

from yxanul.cores import usable_cores, usable_memory

_STATUS = Path("/proc/self/status")
# How flags begin by which libraries choose their kernels; the kernel's own, as of
# mitigations, differ between machines that compute alike.
_ARITHMETIC = ("amx", "asimd", "avx", "bf16", "f16c", "fma", "fphp", "i8mm", "sse", "sve")


@dataclass(frozen=True)
class DeviceKind:
    """What a device is called, and what decides in which order it adds."""

    name: str
    type: str
    order: str

    def __str__(self) -> str:
        return f"{self.name} ({self.order})"


def device_kind(device: torch.device) -> DeviceKind:
    """Return the kind of a card or CPU: those of one kind round alike, with as many threads.

    Cards of one chip and size are alike whatever their maker calls them. Of CPUs the name belongs
    to it: libraries divide their work by caches, too.
    """
    name = device_name(device)
    if device.type == "cuda":
        card = torch.cuda.get_device_properties(device)
        order = f"sm_{card.major}{card.minor}, {card.multi_processor_count} multiprocessors"
        return DeviceKind(name, device.type, order)
    flags = sorted(flag for flag in cpu_flags() if flag.startswith(_ARITHMETIC))
    digest = hashlib.sha256(" ".join([name, *flags]).encode()).hexdigest()[:8]
    order = f"{torch.backends.cpu.get_cpu_capability()}, flags {digest}"
    return DeviceKind(name, device.type, order)


def device_name(device: torch.device) -> str:
    """Return the maker's name of the card or of the CPU."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return _cpu_line("model name") or platform.processor() or platform.machine()


def memory_bytes(device: torch.device) -> int:
    """Return the card's memory, or the memory that this process may use on the CPU."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    return usable_memory()


def free_bytes(device: torch.device) -> int:
    """Return what tensors may still take of a card; on a CPU all that this process may use.

    There memory is taken when it is written to, and what others leave changes all the time.
    """
    if device.type != "cuda":
        return memory_bytes(device)
    free, _ = torch.cuda.mem_get_info(device)
    # What torch keeps of freed tensors is ours as well.
    kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return int(free + kept)


def most_held_bytes(device: torch.device) -> int:
    """Return the most that tensors held on the card, or that this whole process held on a CPU."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    # Linux counts into ru_maxrss what the process was before it became this program.
    # Some sandboxes' own kernels do not tell, and macOS has no such file.
    lines = _STATUS.read_text().splitlines() if _STATUS.is_file() else []
    for line in lines:
        if line.startswith("VmHWM:"):
            return 1024 * int(line.split()[1])
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else 1024 * most  # macOS alone counts in bytes


def synchronise(device: torch.device) -> None:
    """Wait until the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def cpu_flags() -> frozenset[str]:
    """Return the CPU's feature flags as Linux names them; empty elsewhere."""
    return frozenset((_cpu_line("flags") or _cpu_line("Features")).split())


def cores_per_process() -> int:
    """Return this process' part of the cores: a launcher may have started several on the machine.

    At least one.
    """
    return max(1, usable_cores() // launched_here())


def launched_here() -> int:
    """Return how many processes a launcher has started on this machine; at least 1.

    torchrun and DeepSpeed's launcher tell it, each by its own variable.
    """
    told = (os.environ.get(name, "") for name in ("LOCAL_WORLD_SIZE", "LOCAL_SIZE"))
    return max(1, next((int(count) for count in told if count.isdecimal()), 1))


def use_own_cores() -> None:
    """Let torch compute with as many threads as this process has cores; it knows no quota of them.

    Fewer than so many stay, and so do those that a user asks for by OMP_NUM_THREADS. To be called
    before any tensor is computed: threads that have begun with a number may keep it.
    """
    if not os.environ.get("OMP_NUM_THREADS"):
        torch.set_num_threads(min(torch.get_num_threads(), cores_per_process()))


def _cpu_line(key: str) -> str:
    """Return the first value of a key in /proc/cpuinfo; empty where there is none."""
    path = Path("/proc/cpuinfo")
    if platform.system() != "Linux" or not path.exists():
        return ""
    for line in path.read_text().splitlines():
        if line.startswith(key):
            return line.partition(":")[2].strip()
    return ""
