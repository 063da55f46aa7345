"""A program for torchrun's ranks: yxanul, whose main rank waits for its disk at the first save."""

import itertools
import time

from yxanul.cli.main import main
from yxanul.train.outward.saver import Saver

finish = Saver.finish
calls = itertools.count(1)


def finish_late(self):
    """Wait as ever, and at the first call for a disk that takes its time."""
    if next(calls) == 1:
        time.sleep(8)
    finish(self)


Saver.finish = finish_late
main()
