"""Every way that races learns the text that it is given, and is judged alike."""

import itertools
import math
from itertools import islice

import numpy as np
import pytest
import torch

from benchmarks.speed.racer import LONGEST_ROW, UPDATE_TOKENS, Text, open_text
from benchmarks.speed.racers import RACERS
from benchmarks.speedrun import race, score
from tests.train.world import World
from yxanul.config.load import load_config
from yxanul.config.tokens import END_OF_TEXT
from yxanul.hardware.choices import freeze_compute


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A run that has prepared its data."""
    world = World.create(tmp_path_factory.mktemp("race"))
    world.finish("run", "run", "--max_steps", "1")
    return world


@pytest.fixture(scope="module")
def course(world):
    """A configuration with every choice made, and a text of real shards."""
    changes = ["data.source=texts", "compute.loss_chunk_tokens=1024", "compute.attention=plain"]
    config = load_config(world.root / "configs", overrides=changes)
    compute = freeze_compute(
        config.optimization.compute,
        config.model,
        parameters=1,
        device=torch.device("cpu"),
        longest_seq_len=64,
    )
    optimization = config.optimization.model_copy(update={"compute": compute})
    model = config.model.model_copy(update={"max_position_embeddings": 256})
    config = config.model_copy(update={"optimization": optimization, "model": model})
    return config, opened(world)


def opened(world: World, *, packing: str = "stream") -> Text:
    data = world.root / "run" / "data"
    return open_text(data, "stage1_tales", held_out_tokens=800, packing=packing)


# Peers cost as much as ours and are less to prove.
WAYS = [
    pytest.param(way, marks=pytest.mark.slow) if way in ("nanochat", "nanoGPT") else way
    for way in RACERS
]


@pytest.mark.parametrize("way", WAYS)
def test_a_way_learns_while_its_time_runs(course, way):
    config, text = course
    racer = RACERS[way](config, 1)
    before = score(racer, text)
    # The best guess without learning is one of 50,257 tokens.
    tokens = sum(len(document) - 1 for document in text.documents)
    assert before == pytest.approx(_guessing(text, tokens), rel=0.15)
    half_seconds = itertools.count(step=0.5)  # an update takes half a second, whatever the machine
    points = race(racer, text, seconds=12, seed=1, marks=3, clock=lambda: next(half_seconds))
    assert [(point["seconds"], point["updates"]) for point in points] == [(4, 8), (8, 16), (12, 24)]
    assert points[-1]["bpb"] < 0.98 * before  # nanoGPT's rate is the lowest: 0.967


def _guessing(text, tokens: int) -> float:
    from yxanul.data.tokenizer import load_tokenizer

    sizes = load_tokenizer().token_bytes
    measure = sum(int(sizes[document[1:]].sum()) for document in text.documents)
    return tokens * math.log2(50_257) / measure


def test_every_stretch_is_read_once_before_any_is_read_again(course):
    _, text = course
    count = (len(text.stream) - 1) // UPDATE_TOKENS
    updates = text.updates(3)
    first, second = (
        [tuple(next(updates)(LONGEST_ROW).inputs.ravel()) for _ in range(count)] for _ in range(2)
    )
    assert len(set(first)) == count
    assert set(first) == set(second)


@pytest.mark.parametrize(("packing", "least", "most"), [("stream", 0, 0.5), ("best_fit", 0.9, 1)])
def test_packed_rows_begin_with_documents_and_those_of_the_stream_where_they_fall(
    world, packing, least, most
):
    updates = islice(opened(world, packing=packing).updates(1), 3)
    begins = [rows(LONGEST_ROW).inputs[:, 0] == END_OF_TEXT for rows in updates]
    assert least <= np.mean(begins) <= most
