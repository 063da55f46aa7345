"""A program for torchrun's ranks: yxanul, where each rank leaves its threads in THREADS/<rank>."""

import os
from pathlib import Path

import torch

from yxanul.cli.main import main
from yxanul.train.updates import guarded

measure = guarded.measure_step


def measure_and_tell(engine, batch, **more):
    """Compute as ever, and write how many threads do."""
    place = Path(os.environ["THREADS"]) / os.environ["RANK"]
    place.write_text(str(torch.get_num_threads()))
    return measure(engine, batch, **more)


guarded.measure_step = measure_and_tell
main()
