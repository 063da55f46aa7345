"""The machine that a run is on: this process's place on it, and what is written down of it."""

import json
import platform
import subprocess
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

import yxanul
from yxanul.config.schema import RunConfig
from yxanul.hardware.choices import cpu_flags
from yxanul.parallel.processes import Processes
from yxanul.runfolder.durable import write_json
from yxanul.runfolder.layout import RunFolder
from yxanul.train.progress import RunProgress
from yxanul.train.signals import StopRequest


@dataclass(frozen=True)
class Machine:
    """This process's place, device and voice."""

    processes: Processes
    device: torch.device
    progress: RunProgress
    stop: StopRequest


def record_environment(
    config: RunConfig, folder: RunFolder, *, command: str, machine: Machine
) -> list[str]:
    """Write RUN/environment.json; return what differs from the run's last machine."""
    device = machine.device
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else _cpu_name()
    now: dict[str, Any] = {
        "yxanul": yxanul.__version__,
        "commit": _commit(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "platform": platform.platform(),
        "device": name,
        "world_size": machine.processes.world_size,
        "threads": config.optimization.compute.threads,
        "seed": config.optimization.seed,
    }
    before: Any = None
    # The file only informs: one that is missing or damaged is written again.
    with suppress(FileNotFoundError, ValueError):
        before = json.loads(folder.environment.read_text(encoding="utf-8"))
    if not isinstance(before, dict):
        before = {}
    write_json(folder.environment, {**now, "command": command, "cpu_flags": sorted(cpu_flags())})
    return [f"{k}: {before[k]} -> {v}" for k, v in now.items() if before.get(k, v) != v]


def _cpu_name() -> str:
    path = Path("/proc/cpuinfo")
    if path.exists():
        for line in path.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _commit() -> str | None:
    """Return the commit of the checkout that the program runs from; None outside a checkout."""
    source = Path(__file__).parent
    command = ["git", "-C", str(source), "rev-parse", "HEAD"]
    with suppress(FileNotFoundError):  # no git on this machine
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        return done.stdout.strip() or None
    return None
