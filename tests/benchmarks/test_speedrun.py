"""Every way that races learns the text that it is given, and is judged alike."""

import itertools
import json
import math
import sys
import time
from itertools import islice

import numpy as np
import pytest
import torch

from benchmarks import speedrun
from benchmarks.speed.racer import LONGEST_ROW, UPDATE_TOKENS, Text, open_text
from benchmarks.speed.racers import RACERS, NanoChat
from benchmarks.speedrun import main, race, score
from tests.train.world import World
from yxanul.config.load import load_config
from yxanul.config.tokens import END_OF_TEXT
from yxanul.data.batches.validation import validation_documents
from yxanul.data.prepared.manifest import load_manifest
from yxanul.errors import UsageError
from yxanul.hardware.choices import DTYPES, freeze_compute

SOURCE = "stage1_tales"


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
    compute = freeze_compute(config.optimization.compute, torch.device("cpu"), longest_seq_len=64)
    optimization = config.optimization.model_copy(update={"compute": compute})
    model = config.model.model_copy(update={"max_position_embeddings": 256})
    config = config.model_copy(update={"optimization": optimization, "model": model})
    return config, opened(world)


def opened(world: World, *, held_out_tokens: int = 600, **options: str) -> Text:
    data = world.root / "run" / "data"
    return open_text(data, SOURCE, held_out_tokens=held_out_tokens, **options)


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


def test_a_race_is_judged_by_documents_after_those_that_settings_are_chosen_by(world):
    data = world.root / "run" / "data"
    held_out = validation_documents(load_manifest(data), data, source=SOURCE, max_tokens=10**6)
    chosen, judging = (opened(world, judge=judge).documents for judge in ("searched", "unseen"))
    assert len(chosen) > 3
    assert len(judging) > 3
    both = [document.tobytes() for document in (*chosen, *judging)]
    assert both == [document.tobytes() for document in held_out[: len(both)]]
    assert opened(world).documents[0].tobytes() == judging[0].tobytes()
    with pytest.raises(UsageError, match="--judge searched"):
        opened(world, held_out_tokens=10**6)


@pytest.mark.parametrize("precision", DTYPES)
def test_nanochat_trains_in_the_precision_of_the_run(course, precision):
    config, _ = course
    compute = config.optimization.compute.model_copy(update={"precision": precision})
    optimization = config.optimization.model_copy(update={"compute": compute})
    racer = NanoChat(config.model_copy(update={"optimization": optimization}), 1)
    assert racer._model.tokens.weight.dtype == DTYPES[precision]


class Guessing:
    """A way that learns nothing, and is stopped by hand in its second race."""

    parameters = 12_345
    begun = itertools.count()

    def __init__(self, config, seed) -> None:
        self.number = next(self.begun)

    def learn(self, rows, progress) -> None:
        if self.number == 2:  # the first one warms up
            raise KeyboardInterrupt
        time.sleep(0.002)

    def read(self, inputs, targets):
        return torch.full(targets.shape, 10.0)


def test_races_that_have_ended_are_kept_whatever_follows(world, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(speedrun, "SOURCE", SOURCE)
    monkeypatch.setattr(speedrun, "HELD_OUT_TOKENS", 600)
    monkeypatch.setitem(RACERS, "guessing", Guessing)
    words = ("--data", world.root / "run" / "data", "--ways", "guessing", "--out", tmp_path)
    more = ("--seconds", 0.02, 0.03, "--set", "compute.threads=1")
    monkeypatch.setattr(sys, "argv", ["speedrun", *map(str, (*words, *more))])
    with pytest.raises(KeyboardInterrupt):
        main()
    (table,), (points,) = (list(tmp_path.glob(f"*-cpu-race.{end}")) for end in ("md", "json"))
    assert table.read_text() == capsys.readouterr().out
    (raced,) = json.loads(points.read_text())[0]["rows"]
    assert (raced["way"], raced["seconds"], raced["parameters"]) == ("guessing", 0.02, 12_345)
    assert len(raced["course"]) == 5
    assert "| 0 | guessing | 12,345 | " in table.read_text()
