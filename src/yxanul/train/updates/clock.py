"""Time inside steps only; scoring and saving are counted apart."""

import time
from collections.abc import Callable
from functools import partial

import torch

from yxanul.hardware.device import synchronise
from yxanul.parallel.processes import Processes


def wait_for_update(processes: Processes, device: torch.device) -> Callable[[], object] | None:
    """Return what waits until the device has done a step's update; None: nothing need wait."""
    # A card works on after the call that asks for an update. A process alone begins the next step
    # meanwhile, which then takes longer, and the sum is right. Several ask one another things
    # between two steps, and would wait for the update there, where no clock counts: waiting within
    # the step costs them nothing.
    if device.type == "cuda" and processes.world_size > 1:
        return partial(synchronise, device)
    return None


class StepClock:
    """Counts the seconds, tokens and FLOPs of the steps that this process has done.

    `wait` is called before a step counts as done.
    """

    def __init__(self, wait: Callable[[], object] | None = None) -> None:
        self._wait = wait
        self.seconds = 0.0
        self.flops = 0.0
        self.tokens = 0
        self.step_s = 0.0
        """Seconds of the last step."""
        self._step_flops = 0.0
        self._begin = 0.0

    def begin(self) -> None:
        """Start a step."""
        self._begin = time.perf_counter()

    def end(self, tokens: int, flops_per_token: float) -> None:
        """End a step of `tokens` tokens over all ranks."""
        if self._wait is not None:
            self._wait()
        self.step_s = time.perf_counter() - self._begin
        self.seconds += self.step_s
        self.tokens += tokens
        self._step_flops = tokens * flops_per_token
        self.flops += self._step_flops

    @property
    def tokens_per_s(self) -> float | None:
        """Tokens per second over all ranks; None before the first step."""
        return self.tokens / self.seconds if self.seconds else None

    def mfu(self, peak_flops: float | None) -> float | None:
        """Share of the peak, 0 to 1, PaLM convention; None without a known peak or a step."""
        return self.flops / self.seconds / peak_flops if peak_flops and self.seconds else None

    def step_mfu(self, peak_flops: float | None) -> float | None:
        """Share of the peak that the last step reached; None without a known peak."""
        return self._step_flops / self.step_s / peak_flops if peak_flops else None
