"""A program for torchrun's ranks: yxanul, with one bit of rank 1's weights flipped at step 5."""

import itertools
import os

import torch

from yxanul.cli.main import main
from yxanul.train.updates import guarded

measure = guarded.measure_step
steps = itertools.count(1)


def measure_and_flip(engine, batch, **more):
    """Compute as ever; on rank 1, memory fails once."""
    if os.environ["RANK"] == "1" and next(steps) == 5:
        weight = next(engine.replica.module.parameters())
        weight.detach().view(torch.int32).flatten()[7] ^= 1 << 3
    return measure(engine, batch, **more)


guarded.measure_step = measure_and_flip
main()
