"""One row of the doctor's table: an optimisation, whether it is used, and why."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import torch

from yxanul.config.schema import ComputeConfig, OptimizationConfig, StageConfig

State = Literal["active", "available", "unavailable"]


@dataclass(frozen=True)
class Feature:
    """An optimisation of a run on a machine.

    active: the run uses it. available: the machine can, and the run does not.
    unavailable: this machine or this version cannot.
    """

    name: str
    state: State
    why: str
    """What it is or does here, or what to do to have it."""
    choice: str = ""
    """The value that was chosen, where there are several: bf16, plain."""
    asked: bool = False
    """The configuration asks for it."""

    @property
    def reason(self) -> str:
        """The choice, if there is one, and why."""
        return f"{self.choice}: {self.why}" if self.choice else self.why

    def as_json(self) -> dict[str, str]:
        """Return the row of `yxanul doctor --json` and of RUN/environment.json."""
        return {"name": self.name, "state": self.state, "reason": self.reason}


@dataclass(frozen=True)
class Case:
    """What is judged: a configuration on a machine."""

    optimization: OptimizationConfig
    """With precision, attention and threads chosen."""
    stages: tuple[StageConfig, ...]
    """Empty: no configuration was given, and the defaults are judged."""
    device: torch.device
    world_size: int
    malloc: str
    """What came of the wish to keep freed memory, as `keep_freed_memory` says it, or off."""
    rates: Mapping[str, float]
    """FLOP/s of matrix products by type, measured on a CPU; empty on a card."""
    wish: ComputeConfig | None = None
    """What was asked for before any choice; None: that is not known, and all is chosen."""
    has_begun: bool = False
    """The choices are those of a run's start, made for good."""
    bus_bytes_per_s: float | None = None
    """What an all-reduce between the processes reaches, if there are several and it was timed."""

    @property
    def left_open(self) -> ComputeConfig:
        """The arithmetic's settings with what only a run's first start on a card will choose."""
        settled = self.optimization.compute
        is_settled = self.has_begun or self.device.type == "cpu"
        return settled if self.wish is None or is_settled else self.wish


Row = Callable[[Case], Feature]
