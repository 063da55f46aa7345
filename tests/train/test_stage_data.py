"""A stage's rows, step after step; the next step's may be read before it is asked for."""

import json
from types import SimpleNamespace

import numpy as np
import pytest

from tests.train.world import BATCH_TOKENS, STAGES, World
from yxanul.config.load import load_config
from yxanul.curriculum.changes import Segment, StageChanges
from yxanul.curriculum.stages import plan_stages
from yxanul.data.batches.loader import StepRows
from yxanul.data.batches.mixture import mixed_order
from yxanul.data.batches.order import OrderKey
from yxanul.data.prepared.manifest import load_manifest
from yxanul.data.prepared.shards import open_stream
from yxanul.parallel.processes import ALONE
from yxanul.runfolder.layout import RunFolder
from yxanul.train.running import stage_data
from yxanul.train.running.stage_data import StageRows, stage_chunks, stage_ledger, stage_loader
from yxanul.train.starting.corpus import Corpus

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
    monkeypatch.setattr(stage_data, "stage_loader", lambda session, plan: (made, STARTS))
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


SHARE, RAMP, STAGE_STEPS = 0.25, 0.2, 1000
AFTER = (SHARE - RAMP / 2) / (1 - RAMP / 2)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory) -> SimpleNamespace:
    """What a stage's ledger asks of a session, where the second stage has a ramp."""
    world = World.create(tmp_path_factory.mktemp("ramp"))
    world.finish("run", "run", "--max_steps", "1")
    long = {
        "training.total_tokens": STAGE_STEPS * BATCH_TOKENS,
        "data.replay_share": SHARE,
        "data.ramp_fraction": RAMP,
    }
    sets = [f"{STAGES[1]}.{key}={value}" for key, value in long.items()]
    data = f"data.source={world.texts}"
    config = load_config(world.root / "configs", overrides=[data, *sets])
    folder = RunFolder(world.root / "run")
    manifest = load_manifest(folder.data)
    streams = {n: open_stream(manifest, folder.data, source=n, split="train") for n in STAGES}
    corpus = Corpus(manifest, streams, folder.data)
    return SimpleNamespace(config=config, folder=folder, corpus=corpus)


def replayed(session: SimpleNamespace, *segments: Segment) -> float:
    """Return the steps' worth of text that the second stage replays, read in these segments."""
    changes = StageChanges(segments=segments).as_row()
    kept = StageChanges.from_row(json.loads(json.dumps(changes)))
    session.stages = plan_stages(session.config, {STAGES[1]: kept})
    return stage_ledger(session, session.stages[1])[STAGES[0]] / BATCH_TOKENS


@pytest.mark.parametrize("back_to", [50, 150, 250, 900])
def test_a_stage_that_is_gone_back_into_keeps_its_line_and_its_replay(prepared, back_to):
    end = STAGE_STEPS
    found = replayed(prepared, Segment(0, end, 0), Segment(back_to, end, 1))
    assert found == pytest.approx(SHARE * end, abs=2)
    # From there on alone: what the line leaves.
    level = max(AFTER, 1 - (1 - AFTER) * back_to / (RAMP * end))
    rest = AFTER * (end - back_to) + (level - AFTER) * max(0, RAMP * end - back_to) / 2
    assert replayed(prepared, Segment(back_to, end, 1)) == pytest.approx(rest, abs=2)


def test_an_extension_goes_on_with_the_mixture_that_the_stage_came_to(prepared):
    longer = Segment(0, STAGE_STEPS, 0), Segment(STAGE_STEPS, STAGE_STEPS + 100, 1)
    assert replayed(prepared, *longer) == pytest.approx(SHARE * STAGE_STEPS + AFTER * 100, abs=2)


def test_what_an_earlier_version_began_is_read_as_it_began(prepared):
    """It read the share of the whole stage from there on, in an order of that part alone."""
    row = StageChanges(segments=(Segment(0, 1000, 0), Segment(400, 1000, 1))).as_row()
    for segment in row["segments"]:
        del segment["keeps_line"]
    kept = StageChanges.from_row(row)
    prepared.stages = plan_stages(prepared.config, {STAGES[1]: kept})
    plan = prepared.stages[1]
    chunks, of_a_step = stage_chunks(prepared, plan), BATCH_TOKENS // 64
    begun = mixed_order(
        prepared.corpus.manifest,
        prepared.config.stages,
        key=OrderKey(plan.config.data.seed, plan.name, 1),
        n_chunks=600 * of_a_step,
        chunks=chunks,
        replay=(SHARE, 0.0),
    )
    loader, first = stage_loader(prepared, plan)
    assert (loader.steps, first) == (600, 400)
    for step in (0, 599):
        rows = loader.step_rows(step, 64).inputs
        for row, place in zip(rows, range(step * of_a_step, (step + 1) * of_a_step), strict=True):
            name = begun.sources[begun.source_index[place]]
            begin = 64 * int(begun.chunk_index[place])
            assert np.array_equal(row, prepared.corpus.streams[name].read(begin, 64))
