"""The machine that a run is on: this process's place on it, and what is written down of it."""

import json
import os
import platform
import subprocess
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

import yxanul
from yxanul.config.schema import ComputeConfig, RunConfig
from yxanul.errors import InfrastructureError, StoppedOnRequest, UsageError
from yxanul.hardware.choices import DTYPES, HIDING, hides_cards, unused_card
from yxanul.hardware.device import cpu_flags, device_name, launched_here
from yxanul.hardware.doctor import list_features, measure_rates
from yxanul.hardware.feature import Case, Feature
from yxanul.parallel.processes import Processes, local_rank
from yxanul.runfolder.durable import write_json
from yxanul.runfolder.layout import RunFolder
from yxanul.signals import StopRequest
from yxanul.train.outward.progress import RunProgress
from yxanul.train.processes.links import Links


@dataclass(frozen=True)
class Machine:
    """This process's place, device and voice."""

    processes: Processes
    device: torch.device
    progress: RunProgress
    stop: StopRequest
    began: float = field(default_factory=time.monotonic)
    """time.monotonic() when this process began to work on the run."""

    def heard(self, text: str) -> None:
        """Pass on a line of news of a long preparation, which is where it can be stopped."""
        self.progress.say(text)
        if self.stop.asked:
            raise StoppedOnRequest(
                f"stopped by {self.stop.signal_name} while the run was prepared; "
                "start the same command again to go on"
            )


@dataclass(frozen=True)
class Start:
    """What is known of a start of the run before its first step."""

    command: str
    malloc: str
    """What came of the wish to keep freed memory."""
    peak_flops: float | None
    """Rate of matrix products in the run's precision, as just measured on a CPU."""
    links: Links | None
    """What several processes measured of one another."""
    wish: ComputeConfig
    """The arithmetic's settings as they were asked for, before any choice."""


def record_environment(
    config: RunConfig, folder: RunFolder, *, start: Start, machine: Machine
) -> tuple[list[str], tuple[Feature, ...]]:
    """Write RUN/environment.json; return what differs from the last machine, and the features.

    Rates of matrix products are measured on the run's first start and again on another machine.
    """
    compute = config.optimization.compute
    now, before = _environment(config, machine), _last_environment(folder)
    changes = _changes(before, now)
    known = _known_rates(before, now)
    if known is None:
        known = {} if start.peak_flops is None else {compute.precision: start.peak_flops}
    case = Case(
        optimization=config.optimization,
        stages=config.stages,
        device=machine.device,
        world_size=machine.processes.world_size,
        malloc=start.malloc,
        rates=measure_rates(machine.device, known=known),
        wish=start.wish,
        has_begun=True,
        bus_bytes_per_s=None if start.links is None else start.links.bus_bytes_per_s,
    )
    features = list_features(case)
    more = {
        "command": start.command,
        "cpu_flags": sorted(cpu_flags()),
        "gemm_flops": dict(case.rates),
        "links": None if start.links is None else asdict(start.links),
        "features": [feature.as_json() for feature in features],
    }
    write_json(folder.environment, {**now, **more})
    return changes, features


def refuse_other_environment(config: RunConfig, folder: RunFolder, *, machine: Machine) -> None:
    """Raise a `UsageError` if the run's last start was on another machine or program."""
    changes = _changes(_last_environment(folder), _environment(config, machine))
    if changes:
        raise UsageError(
            f"--strict: this start differs from the run's last one ({'; '.join(changes)}), so it "
            "would not go on bit for bit; go on without --strict, or where it was begun"
        )


def refuse_lost_card(folder: RunFolder, *, device: torch.device) -> None:
    """Raise an `InfrastructureError` if the run's last start had a card and this process has none.

    A card that fails may take its driver along, and a CPU would train on beside it for weeks. Of
    one that is there and not used it is the error of `unused_card`, unless that start was on a CPU.
    """
    last = _last_environment(folder).get("device_type")
    if last != "cpu" and (error := unused_card()) is not None:
        raise error
    if last == "cuda" and device.type != "cuda" and not hides_cards():
        raise InfrastructureError(
            "the run's last start was on a CUDA card, and torch finds none here: did a card or its "
            "driver fail (nvidia-smi and dmesg tell more), or is this torch built without CUDA? "
            f"Go on where there is a card, or on the CPU with {HIDING}= (empty)"
        )


def refuse_missing_card(folder: RunFolder) -> None:
    """Raise an `InfrastructureError` where processes lack cards that the last start's had.

    That is: as many processes, on cards. Else too many were started, as `pick_device` says. All of
    the machine's processes raise it, for the main one alone is heard; of those that are shown one
    card, which may be their own, the ones without it.
    """
    cards, here = torch.cuda.device_count(), local_rank() + 1
    shown = os.environ.get(HIDING, "").split(",")
    if shown == [""] or len(shown) > 1:
        here = max(here, launched_here())
    if not 0 < cards < here:
        return
    error = lost_card(folder, cards=cards, here=here, asked=int(os.environ.get("WORLD_SIZE", "1")))
    if error is not None:
        raise error


def lost_card(
    folder: RunFolder, *, cards: int, here: int, asked: int
) -> InfrastructureError | None:
    """Return the error that fewer cards are than processes here; None: too many are asked for.

    A card was lost where the run's last start had as many processes in all, on cards.
    """
    was_on_cards = _last_environment(folder).get("device_type") == "cuda"
    if not was_on_cards or last_world_size(folder) != asked:
        return None
    return InfrastructureError(
        f"torch finds {cards} CUDA card(s) for {here} processes of this machine, and the run's "
        "last start had as many processes on cards: did a card fail (nvidia-smi and dmesg tell "
        "more)? Go on where it is back, or with fewer processes"
    )


def last_world_size(folder: RunFolder) -> int | None:
    """Return the number of processes of the run's last start; None: nothing tells."""
    found = _last_environment(folder).get("world_size")
    return found if isinstance(found, int) else None


def _environment(config: RunConfig, machine: Machine) -> dict[str, Any]:
    """Return what decides whether a run goes on bit for bit."""
    return {
        "yxanul": yxanul.__version__,
        "commit": commit_of(Path(__file__)),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "platform": platform.platform(),
        "device": device_name(machine.device),
        "device_type": machine.device.type,
        "world_size": machine.processes.world_size,
        "threads": config.optimization.compute.threads,
        "seed": config.optimization.seed,
    }


def _changes(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    return [f"{k}: {before[k]} -> {v}" for k, v in now.items() if before.get(k, v) != v]


def _last_environment(folder: RunFolder) -> dict[str, Any]:
    """Return what the start before wrote; it only informs, so a damaged file counts as none."""
    with suppress(FileNotFoundError, ValueError, RecursionError):
        before = json.loads(folder.environment.read_text(encoding="utf-8"))
        if isinstance(before, dict):
            return before
    return {}


def _known_rates(before: dict[str, Any], now: dict[str, Any]) -> dict[str, float] | None:
    """Return the rates that the run measured on this same machine; None: there are none."""
    rates = before.get("gemm_flops")
    same = all(before.get(key) == now[key] for key in ("device", "torch", "threads"))
    if not same or not isinstance(rates, dict):
        return None
    whole = rates.keys() >= DTYPES.keys() and all(isinstance(v, float) for v in rates.values())
    return rates if whole and all(rate > 0 for rate in rates.values()) else None


def commit_of(file: Path) -> str | None:
    """Return the commit of the checkout that a file of the program is of; None outside one.

    What is not tracked, as in a virtual environment, is no part of the repository around it.
    """
    git = ["git", "-C", str(file.parent)]
    asked = (["ls-files", "--error-unmatch", file.name], ["rev-parse", "HEAD"])
    with suppress(FileNotFoundError):  # no git on this machine
        tracked, head = (
            subprocess.run([*git, *words], capture_output=True, text=True, check=False)
            for words in asked
        )
        if not (tracked.returncode or head.returncode):
            return head.stdout.strip()
    return None
