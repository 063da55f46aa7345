"""A stage's rows, step after step; the next step's may be read before it is asked for."""

from types import SimpleNamespace

import numpy as np
import pytest

from yxanul.data.batches.loader import StepRows
from yxanul.parallel.processes import ALONE
from yxanul.train.running import reading
from yxanul.train.running.reading import StageRows

STARTS = 10
TRAINING = SimpleNamespace(
    seq_len_curriculum=[
        SimpleNamespace(from_fraction=0.0, seq_len=4),
        SimpleNamespace(from_fraction=0.75, seq_len=8),
    ]
)
PLAN = SimpleNamespace(config=SimpleNamespace(training=TRAINING), base_steps=16, total_steps=16)


class Loader:
    """Gives rows that tell their step."""

    def __init__(self):
        self.read = []

    def step_rows(self, step, seq_len, *, rank, world_size):
        self.read.append((step, seq_len))
        return StepRows.whole(np.full((1, seq_len), step), np.full((1, seq_len), step + 1))


@pytest.fixture
def loader(monkeypatch):
    """What a stage of 16 steps reads from its step 10 on."""
    made = Loader()
    monkeypatch.setattr(reading, "stage_loader", lambda session, plan: (made, STARTS))
    return made


def rows(first: int = STARTS) -> StageRows:
    session = SimpleNamespace(engine=SimpleNamespace(processes=ALONE))
    return StageRows(session, PLAN, first=first)


@pytest.mark.parametrize("ahead", [0, 1, 2])
def test_every_step_is_read_once_however_often_it_is_read_ahead(loader, ahead):
    stage, found = rows(), []
    for _ in range(6):
        seq_len, batch = stage.take()
        found.append((seq_len, batch.inputs[0, 0]))
        for _ in range(ahead):
            stage.read_ahead()
    assert found == [(4, 0), (4, 1), (8, 2), (8, 3), (8, 4), (8, 5)]
    assert loader.read == [(0, 4), (1, 4), (2, 8), (3, 8), (4, 8), (5, 8)]


def test_what_is_read_ahead_is_the_next_step_alone_and_none_after_the_last(loader):
    stage = rows(first=14)
    stage.take()
    stage.read_ahead()
    assert loader.read == [(4, 8), (5, 8)]
    stage.take()
    stage.read_ahead()
    assert loader.read == [(4, 8), (5, 8)]


def test_a_stage_that_trains_nothing_reads_nothing(loader):
    rows()
    assert loader.read == []
