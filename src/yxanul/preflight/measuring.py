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
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch

from yxanul.bench.step import StepFigures, load_by_rule, measure_fitting
from yxanul.bench.workload import Workload
from yxanul.config.load import parse_config
from yxanul.config.schema import RunConfig
from yxanul.errors import InfrastructureError, YxanulError, first_line
from yxanul.hardware.choices import settle_compute, usable_device
from yxanul.hardware.device import device_name
from yxanul.hardware.failures import naming_failed_hardware
from yxanul.hardware.memory import naming_exhaustion
from yxanul.parallel.processes import Processes, joined_processes, leave, local_rank
from yxanul.preflight.finding import MAKE_ROOM
from yxanul.runfolder.durable import write_json
from yxanul.train.processes.links import measure_links, slow_ranks
from yxanul.train.running.setup import prepare_process

_STEPS = 5


@dataclass(frozen=True)
class Rate:
    """Updates at one sequence length, on every process at once; all is of the slowest process."""

    seq_len: int
    tokens_per_s: float
    """In updates as large as the run's."""
    flops_per_token: int
    """PaLM convention."""
    mfu: float | None
    """Of such updates; None: the card's peak is not known."""
    pass_tokens_per_s: float
    """In forward and backward passes alone."""
    optimizer_s: float
    """Of an update, the optimizer's whole step, shared with no other process."""

    @property
    def flops_per_s(self) -> float:
        """Operations per second in forward and backward passes alone."""
        return self.pass_tokens_per_s * self.flops_per_token


@dataclass(frozen=True)
class Measured:
    """What the processes of this machine measured."""

    device: str
    processes: int
    compiled: str
    fp8: str
    """As timed; auto is off, since only a run's first start on a card tries it."""
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


def rows_of_update(config: RunConfig, seq_len: int, *, processes: int) -> int:
    """Return the rows of one process' part of the largest update of that length, at least one."""
    batches = [
        stage.training.batch_tokens
        for stage in config.stages
        if any(phase.seq_len == seq_len for phase in stage.training.seq_len_curriculum)
    ]
    return max(1, max(batches) // processes // seq_len)


def planned_load(
    config: RunConfig, seq_len: int, *, processes: int, device: torch.device
) -> Workload:
    """Return what is timed at a sequence length: passes of the run's rule, two of them at most.

    More tell nothing new, and take longer.
    """
    load = load_by_rule(config.model, config.optimization, seq_len=seq_len, device=device)
    rows = rows_of_update(config, seq_len, processes=processes)
    each = min(rows, load.rows)
    return replace(load, rows=min(2, rows // each) * each, micro_rows=each, steps=_STEPS)


def planned_figures(config: RunConfig, load: Workload) -> tuple[Workload, StepFigures]:
    """Time a load, or what of it fits: in torch's engine, every `auto` by rule.

    Each process by itself: none waits for another meanwhile.
    """
    compute = config.optimization.compute
    # DeepSpeed's engine needs a launcher of its own; the model's work is the same in either.
    wish = compute.model_copy(update={"engine": "torch", "deepspeed_config": None})
    optimization = config.optimization.model_copy(update={"compute": wish})
    return measure_fitting(load, optimization=optimization)


def measure(config: RunConfig, processes: Processes, *, device: torch.device) -> Measured:
    """Time the bus and whole updates of random tokens; all ranks call it.

    A model or setting that cannot run here is a `UsageError`, one that does not fit an
    `InfrastructureError`.
    """
    links = measure_links(processes, device)
    lengths = measured_lengths(config)
    rates = tuple(_time(config, length, processes=processes, device=device) for length in lengths)
    compute = config.optimization.compute
    chosen = settle_compute(compute, device, longest_seq_len=max(lengths))
    return Measured(
        device=device_name(device),
        processes=processes.world_size,
        compiled=chosen.compile,
        fp8=chosen.fp8,
        rates=rates,
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
        with naming_failed_hardware(), naming_exhaustion(MAKE_ROOM):
            device = usable_device(local_rank())
            with joined_processes(device) as processes, naming_exhaustion(_advice(config)):
                found = measure(config, processes, device=device)
                if processes.is_main:
                    write_json(answer, asdict(found))
    except YxanulError as error:
        _tell(answer, error)
        return error.exit_code
    except Exception as error:  # noqa: BLE001  (`leave` must end the process: a group may wait)
        traceback.print_exc()
        told = f"no step was measured: {type(error).__name__}: {first_line(error)}"
        # torchrun's own last words say nothing of it.
        _tell(answer, InfrastructureError(told))
        return 1
    return 0


def _advice(config: RunConfig) -> str:
    """Return what helps where a pass does not fit."""
    more = config.optimization.compute.recompute_more
    ways = ["set a smaller compute.micro_batch_tokens", more, "take a machine with more memory"]
    return ", or ".join(way for way in ways if way is not None)


def _tell(answer: Path, error: YxanulError) -> None:
    """Write down why this process measured nothing."""
    refusal = {"error": str(error), "code": error.exit_code}
    write_json(answer.with_name(f"refusal-{local_rank()}.json"), refusal)


def _time(config: RunConfig, seq_len: int, *, processes: Processes, device: torch.device) -> Rate:
    """Time updates of rows of `seq_len`, and tell what the run's own, of more passes, would do."""
    world_size = processes.world_size
    load = planned_load(config, seq_len, processes=world_size, device=device)
    load, figures = planned_figures(config, load)
    pass_s = load.tokens / figures.tokens_per_s - figures.optimizer_s
    mine = torch.tensor([pass_s / load.tokens, figures.optimizer_s], dtype=torch.float64)
    found = [tuple(one.tolist()) for one in processes.gathered(mine.to(device))]
    token_s, optimizer_s = (max(parts) for parts in zip(*found, strict=True))
    tokens = seq_len * rows_of_update(config, seq_len, processes=world_size)
    tokens_per_s = tokens / (tokens * token_s + optimizer_s)
    return Rate(
        seq_len=seq_len,
        tokens_per_s=tokens_per_s,
        flops_per_token=figures.flops_per_token,
        mfu=None if figures.mfu is None else figures.mfu * tokens_per_s / figures.tokens_per_s,
        pass_tokens_per_s=1 / token_s,
        optimizer_s=optimizer_s,
    )


if __name__ == "__main__":
    leave(main(sys.argv[1:]))
