"""A program for a server's process: yxanul, whose model fails in its fifth call.

The first word says how: as a `card` does that has failed, and so in all calls after it; once, while
stderr is on a `full` disk; or once, and `rows` for the next texts cannot be made then.
"""

import itertools
import os
import sys

import torch

from yxanul.cli.main import main
from yxanul.model.decoding import Decoder
from yxanul.serve.rows import Rows

FAULT = sys.argv.pop(1)
STDERR = os.dup(2)
calls = itertools.count(1)
read = Decoder.hidden_states


def refuse(*_, **__):
    """No rows can be made any more."""
    raise RuntimeError("no rows")


def read_or_fail(*args, **options):
    """Read as ever, but for the calls that fail."""
    call = next(calls)
    if FAULT == "card" and call >= 5:
        raise torch.AcceleratorError("CUDA error: an illegal memory access was encountered\nmore")
    if FAULT == "full":
        os.dup2(os.open("/dev/full", os.O_WRONLY) if call == 5 else STDERR, 2)
    if FAULT == "rows" and call == 5:
        Rows.__init__ = refuse
    if call == 5:
        raise RuntimeError("the model is ill")
    return read(*args, **options)


Decoder.hidden_states = read_or_fail
main()
