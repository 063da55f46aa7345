"""The next step's rows are read while a step is worked on."""

import threading
from contextlib import closing
from types import SimpleNamespace

import numpy as np
import pytest

from yxanul.data.loader import StepRows
from yxanul.parallel.processes import ALONE
from yxanul.train import reading

STARTS = 10
TRAINING = SimpleNamespace(
    seq_len_curriculum=[
        SimpleNamespace(from_fraction=0.0, seq_len=4),
        SimpleNamespace(from_fraction=0.5, seq_len=8),
    ]
)
PLAN = SimpleNamespace(config=SimpleNamespace(training=TRAINING), base_steps=16, total_steps=16)


class Loader:
    """Gives rows that tell their step; `bad` is a step that cannot be read."""

    def __init__(self, bad=None):
        self.bad, self.read = bad, []
        self.told = threading.Condition()

    def step_rows(self, step, seq_len, *, rank, world_size):
        with self.told:
            self.read.append((step, seq_len))
            self.told.notify_all()
        if step == self.bad:
            raise OSError("cannot be read")
        return StepRows.whole(np.full((1, seq_len), step), np.full((1, seq_len), step + 1))

    def wait_for(self, count):
        with self.told:
            assert self.told.wait_for(lambda: len(self.read) >= count, timeout=20)


@pytest.fixture
def read(monkeypatch):
    """What a stage of 16 steps yields from one on; its loader begins at step 10."""

    def begun(loader, *, first):
        monkeypatch.setattr(reading, "stage_loader", lambda session, plan: (loader, STARTS))
        session = SimpleNamespace(engine=SimpleNamespace(processes=ALONE))
        return closing(reading.stage_rows(session, PLAN, first=first))

    return begun


def test_every_step_is_yielded_once_with_its_length(read):
    loader = Loader()
    with read(loader, first=STARTS) as batches:
        found = [(seq_len, rows.inputs.tolist()) for seq_len, rows in batches]
    assert found == [(8, [[step] * 8]) for step in range(6)]
    assert loader.read == [(step, 8) for step in range(6)]


def test_a_step_is_read_before_it_is_asked_for_and_none_beyond_the_next(read):
    loader = Loader()
    with read(loader, first=STARTS) as batches:
        next(batches)
        loader.wait_for(2)
        assert [step for step, _ in loader.read] == [0, 1]
    assert not any(thread.name.startswith("rows") for thread in threading.enumerate())


def test_what_cannot_be_read_is_an_error_at_its_own_step(read):
    loader = Loader(bad=2)
    with read(loader, first=STARTS) as batches:
        next(batches)
        next(batches)
        loader.wait_for(3)
        with pytest.raises(OSError, match="cannot be read"):
            next(batches)


def test_a_stage_that_trains_nothing_reads_nothing(read):
    loader = Loader()
    with read(loader, first=STARTS):
        pass
    assert loader.read == []
