"""What the ranks measure of one another before a run: the bus between them, and who is slow.

On a rented host the bus may be a tenth of another's, and one slow card holds up all: better known
in the first minute than from the bill.
"""

import platform
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.distributed as dist

from yxanul.hardware.device import synchronise
from yxanul.parallel.processes import Processes

_BYTES = {"cpu": 8 << 20, "cuda": 256 << 20}
_SIDE = {"cpu": 512, "cuda": 8192}
_DTYPE = {"cpu": torch.float32, "cuda": torch.bfloat16}
_REPEATS = 5
_SLOW = 0.8
"""A rank that multiplies at less than this share of the median is named."""


@dataclass(frozen=True)
class Links:
    """The exchange between all ranks, and the rate of each."""

    bus_bytes_per_s: float
    """Bytes that every rank sends per second in an all-reduce: 2 (n - 1) / n of its size."""
    rates: tuple[tuple[str, float], ...]
    """(host and rank, FLOP/s of matrix products) of every rank."""

    def exchange_s(self, gradient_bytes: int) -> float:
        """Return the seconds of one all-reduce of that many bytes, by the measured rate."""
        return all_reduce_s(
            gradient_bytes, ranks=len(self.rates), bus_bytes_per_s=self.bus_bytes_per_s
        )

    def sentences(self, gradient_bytes: int) -> list[str]:
        """Say what was measured, and name who is slow."""
        ms = 1e3 * self.exchange_s(gradient_bytes)
        found = [
            f"bus between {len(self.rates)} processes: {self.bus_bytes_per_s / 1e9:.2f} GB/s; one "
            f"exchange of all gradients takes about {ms:,.0f} ms"
        ]
        return found + [f"slow: {words}" for words in slow_ranks(self.rates)]


def all_reduce_s(size: int, *, ranks: int, bus_bytes_per_s: float) -> float:
    """Return the seconds in which so many ranks add up `size` bytes of each, by a bus' rate."""
    return _bus_share(ranks) * size / bus_bytes_per_s


def _bus_share(ranks: int) -> float:
    """Return how often each rank's bytes cross its bus in an all-reduce."""
    return 2 * (ranks - 1) / ranks


def measure_links(processes: Processes, device: torch.device) -> Links | None:
    """Time an all-reduce and every rank's products; None for a process alone. All ranks call it."""
    if processes.world_size == 1:
        return None
    kind = device.type
    payload = torch.ones(_BYTES[kind] // 4, device=device)
    seconds = _median_s(lambda: dist.all_reduce(payload), device)
    side = torch.randn(_SIDE[kind], _SIDE[kind], device=device, dtype=_DTYPE[kind])
    rate = 2 * _SIDE[kind] ** 3 / _median_s(lambda: side @ side, device)
    rates = processes.told_by_all((f"{platform.node()}, process {processes.rank}", rate))
    # One figure for all ranks: the slowest clock's.
    slowest = torch.tensor(seconds, dtype=torch.float64, device=device)
    dist.all_reduce(slowest, op=dist.ReduceOp.MAX)
    return Links(_bus_share(processes.world_size) * _BYTES[kind] / float(slowest), tuple(rates))


def slow_ranks(rates: Sequence[tuple[str, float]]) -> list[str]:
    """Say of every rank that is much slower than the median how slow it is."""
    median = statistics.median(rate for _, rate in rates)
    return [
        f"{name} multiplies at {rate / 1e12:.2f} TFLOP/s, {rate / median:.0%} of the median; every "
        "step waits for it"
        for name, rate in rates
        if rate < _SLOW * median
    ]


def _median_s(work: Callable[[], object], device: torch.device) -> float:
    seconds = []
    for _ in range(1 + _REPEATS):
        synchronise(device)
        begin = time.perf_counter()
        work()
        synchronise(device)
        seconds.append(time.perf_counter() - begin)
    return statistics.median(seconds[1:])
