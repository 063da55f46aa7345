"""A program for torchrun's ranks: yxanul, where a group ends as NCCL's does: never, after an error.

FAULT=one: rank 1 alone meets an error, at its third step. FAULT=all: all are told to stop, and the
main one has much to write then.
"""

import itertools
import os
import time
from datetime import timedelta

import torch.distributed as dist

from yxanul.cli.main import main
from yxanul.parallel import processes
from yxanul.train import run
from yxanul.train.updates import guarded

measure, write = guarded.measure_step, run.write_report
steps = itertools.count(1)


def measure_and_fail(engine, batch, **more):
    """Compute as ever; on rank 1, memory is not there once."""
    if os.environ["RANK"] == "1" and next(steps) == 3:
        raise RuntimeError("CUDA error: out of memory, on this rank alone")
    return measure(engine, batch, **more)


def write_slowly(root):
    """Write the report, long after the other rank has nothing left to do."""
    time.sleep(4)
    return write(root)


dist.destroy_process_group = lambda: time.sleep(600)
if os.environ["FAULT"] == "one":
    processes._PATIENCE = timedelta(seconds=1)
    guarded.measure_step = measure_and_fail
else:
    run.write_report = write_slowly
main()
