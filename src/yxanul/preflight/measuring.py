"""What this machine does of the configured work: a program for one process, or torchrun's ranks.

The one idea: as many processes as will train measure at once, each on its card, since cards that
work together are slower than one alone, and the slowest holds up all. It is a program of its own so
that nothing of it is left in a card's memory, and so that it can be ended.
"""

from __future__ import annotations

import signal
import sys
import traceback
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from yxanul.bench.step import StepFigures, measure_step
from yxanul.config.load import parse_config
from yxanul.config.schema import RunConfig
from yxanul.errors import YxanulError
from yxanul.hardware.choices import pick_device
from yxanul.hardware.device import device_name
from yxanul.parallel.processes import Processes, joined_processes, leave, local_rank
from yxanul.runfolder.durable import write_json
from yxanul.train.ending import naming_exhaustion
from yxanul.train.links import measure_links, slow_ranks
from yxanul.train.setup import prepare_process

_STEPS = 5


@dataclass(frozen=True)
class Rate:
    """Whole updates at one sequence length, on every process at once."""

    seq_len: int
    tokens_per_s: float
    """Of the slowest process."""
    flops_per_token: int
    """PaLM convention."""
    mfu: float | None
    """Of the slowest process; None: the card's peak is not known."""

    @property
    def flops_per_s(self) -> float:
        """Operations per second of the slowest process."""
        return self.tokens_per_s * self.flops_per_token


@dataclass(frozen=True)
class Measured:
    """What the processes of this machine measured."""

    device: str
    processes: int
    compiled: str
    rates: tuple[Rate, ...]
    """At the plan's shortest and at its longest sequences."""
    bus_bytes_per_s: float | None
    """Of an all-reduce between all processes; None: there is one."""
    slow: tuple[str, ...]
    """A sentence for each process that is far below the median."""


def measured_lengths(config: RunConfig) -> list[int]:
    """Return the shortest and the longest sequences of the plan; others lie between them."""
    lengths = [p.seq_len for s in config.stages for p in s.training.seq_len_curriculum]
    return sorted({min(lengths), max(lengths)})


def measure(config: RunConfig, processes: Processes, *, device: torch.device) -> Measured:
    """Time the bus and whole updates of random tokens; all ranks call it.

    A model or setting that cannot run here is a `UsageError`, one that does not fit an
    `InfrastructureError`.
    """
    links = measure_links(processes, device)
    timed = [_time(config, seq_len, device=device) for seq_len in measured_lengths(config)]
    rates = []
    for figures in timed:
        mine = torch.tensor([figures.tokens_per_s], dtype=torch.float64, device=device)
        slowest = min(float(rate) for rate in processes.gathered(mine))
        share = slowest / figures.tokens_per_s
        mfu = None if figures.mfu is None else share * figures.mfu
        rates.append(Rate(figures.seq_len, slowest, figures.flops_per_token, mfu))
    return Measured(
        device=device_name(device),
        processes=processes.world_size,
        compiled=timed[0].compiled,
        rates=tuple(rates),
        bus_bytes_per_s=None if links is None else links.bus_bytes_per_s,
        slow=() if links is None else tuple(slow_ranks(links.rates)),
    )


def main(arguments: Sequence[str]) -> int:
    """Measure the configuration in a file within some seconds; write the answer to another file."""
    request, answer, limit_s = Path(arguments[0]), Path(arguments[1]), int(arguments[2])
    # The kernel ends this process then, whatever it hangs in: no card stays taken.
    signal.alarm(limit_s)
    config = parse_config(request.read_text(encoding="utf-8"))
    prepare_process(config)
    try:
        device = pick_device(local_rank())
        with joined_processes(device) as processes, naming_exhaustion():
            found = measure(config, processes, device=device)
            if processes.is_main:
                write_json(answer, asdict(found))
    except YxanulError as error:
        refusal = {"error": str(error), "code": error.exit_code}
        write_json(answer.with_name(f"refusal-{local_rank()}.json"), refusal)
        return error.exit_code
    except Exception:  # noqa: BLE001  (`leave` must end the process: a group may wait for it)
        traceback.print_exc()
        return 1
    return 0


def _time(config: RunConfig, seq_len: int, *, device: torch.device) -> StepFigures:
    """Time updates of rows of `seq_len`, as many as the run's rule takes and bring speed."""
    optimization = config.optimization
    # DeepSpeed's engine needs a launcher of its own; the model's work is the same in either.
    compute = optimization.compute.model_copy(update={"engine": "torch", "deepspeed_config": None})
    optimization = optimization.model_copy(update={"compute": compute})
    return measure_step(
        config.model,
        optimization,
        seq_len=seq_len,
        micro_batch=None,
        steps=_STEPS,
        device=device,
    )


if __name__ == "__main__":
    leave(main(sys.argv[1:]))
