"""A step has ended when its update is done, and its share of the peak follows from that."""

import time

import pytest
import torch

from yxanul.parallel.processes import ALONE, Processes
from yxanul.train.updates.clock import StepClock, wait_for_update

CARD, CPU = torch.device("cuda", 0), torch.device("cpu")
TWO = Processes(rank=0, world_size=2)


def test_what_is_waited_for_belongs_to_the_step():
    clock = StepClock(lambda: time.sleep(0.05))
    for _ in range(2):
        clock.begin()
        clock.end(100, 3.0)
    assert clock.step_s >= 0.05
    assert clock.seconds >= 0.1
    assert clock.tokens_per_s == pytest.approx(200 / clock.seconds)
    assert clock.mfu(10.0) == pytest.approx(600 / clock.seconds / 10)
    assert clock.step_mfu(10.0) == pytest.approx(300 / clock.step_s / 10)
    assert clock.step_mfu(None) is None


def test_only_several_processes_on_cards_wait():
    assert wait_for_update(TWO, CARD) is not None
    assert wait_for_update(ALONE, CARD) is None
    assert wait_for_update(TWO, CPU) is None
