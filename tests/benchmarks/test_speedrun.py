"""Every way that races learns the text that it is given, and is judged alike."""

import math

import pytest
import torch

from benchmarks.speed.racer import CHUNK, open_text
from benchmarks.speed.racers import RACERS
from benchmarks.speedrun import race, score
from tests.train.world import World
from yxanul.config.load import load_config
from yxanul.hardware.choices import freeze_compute


@pytest.fixture(scope="module")
def course(tmp_path_factory):
    """A configuration with every choice made, and a text of real shards."""
    world = World.create(tmp_path_factory.mktemp("race"))
    world.finish("run", "run", "--max_steps", "1")
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
    text = open_text(world.root / "run" / "data", "stage1_tales", held_out_tokens=800)
    return config, text


# nanochat's compiles for half a minute, and nanoGPT's is much like ours.
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
    points = race(racer, text, seconds=1.5, seed=1, marks=3)
    assert all(point["seconds"] >= 0.5 * mark for mark, point in enumerate(points, 1))
    assert points[-1]["bpb"] < before
    assert points[-1]["updates"] >= 3


def _guessing(text, tokens: int) -> float:
    from yxanul.data.tokenizer import load_tokenizer

    sizes = load_tokenizer().token_bytes
    measure = sum(int(sizes[document[1:]].sum()) for document in text.documents)
    return tokens * math.log2(50_257) / measure


def test_every_stretch_is_read_once_before_any_is_read_again(course):
    _, text = course
    count = (len(text.stream) - 1) // CHUNK
    chunks = text.chunks(3)
    first, second = ([tuple(next(chunks)) for _ in range(count)] for _ in range(2))
    assert len(set(first)) == count
    assert set(first) == set(second)
