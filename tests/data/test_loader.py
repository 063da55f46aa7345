"""Batches depend on the order alone: not on ranks, sequence length or how shards are cut."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.data.memory import (
    MemorySource,
    plan,
    prepare_plans,
    sentences,
    source,
    stage,
    write_shards,
)
from yxanul.data.batches.loader import StageLoader
from yxanul.data.batches.mixture import source_weights, stage_mixture
from yxanul.data.batches.order import OrderKey, OrderSource, StageOrder, stage_order
from yxanul.data.packing.chunks import ChunkTable, StreamChunks
from yxanul.data.prepared.shards import TokenStream
from yxanul.errors import UsageError

CHUNK = 16
SIDES = ("inputs", "targets")
TOKENS = {"long": 16 * 20 + 5, "short": 16 * 3 + 1}


@pytest.fixture(scope="module")
def streams(tmp_path_factory: pytest.TempPathFactory) -> dict[str, TokenStream]:
    """Streams whose tokens tell their own place: long holds 0, 1, 2 ..., short 1000, 1001 ..."""
    root = tmp_path_factory.mktemp("streams")
    result = {}
    for base, (name, count) in enumerate(TOKENS.items()):
        tokens = np.arange(1000 * base, 1000 * base + count, dtype=np.uint16)
        files = write_shards(root / name, "train", parts=[tokens], shard_tokens=29)
        result[name] = TokenStream([root / file.path for file in files])
    return result


def order(n_chunks: int = 40) -> StageOrder:
    own = [
        OrderSource(name, len(StreamChunks(tokens, CHUNK)), weight)
        for (name, tokens), weight in zip(TOKENS.items(), (0.7, 0.3), strict=True)
    ]
    return stage_order(OrderKey(1, "stage"), n_chunks, own=own)


def loader(streams: dict[str, TokenStream], *, batch_tokens: int = 4 * CHUNK) -> StageLoader:
    return opened(order(), streams, batch_tokens=batch_tokens)


def opened(
    made: StageOrder, streams: dict[str, TokenStream], *, batch_tokens: int = CHUNK
) -> StageLoader:
    chunks = {name: StreamChunks(len(stream), CHUNK) for name, stream in streams.items()}
    return StageLoader(made, streams, chunks=chunks, chunk_tokens=CHUNK, batch_tokens=batch_tokens)


def test_targets_are_the_next_tokens(streams: dict[str, TokenStream]) -> None:
    rows = loader(streams).step_rows(0, CHUNK)
    inputs, targets = rows.inputs, rows.targets
    assert rows.counted == inputs.size
    assert inputs.shape == targets.shape == (4, CHUNK)
    assert inputs.dtype == targets.dtype == np.int64
    assert (targets == inputs + 1).all()


def test_rows_are_the_chunks_of_the_order(streams: dict[str, TokenStream]) -> None:
    made, expected = loader(streams), order()
    rows = np.concatenate([made.step_rows(step, CHUNK).inputs for step in range(made.steps)])
    bases = [1000 if name == "short" else 0 for name in expected.sources]
    places = zip(expected.source_index, expected.chunk_index, strict=True)
    assert rows[:, 0].tolist() == [bases[source] + int(chunk) * CHUNK for source, chunk in places]


@pytest.mark.parametrize("seq_len", [1, 2, 4, 8])
def test_a_shorter_sequence_changes_no_order(streams: dict[str, TokenStream], seq_len: int) -> None:
    made = loader(streams)
    for step in (0, 3):
        whole = made.step_rows(step, CHUNK)
        short = made.step_rows(step, seq_len)
        for side in SIDES:
            long_rows, short_rows = getattr(whole, side), getattr(short, side)
            assert short_rows.shape == (4 * CHUNK // seq_len, seq_len)
            assert (short_rows.reshape(-1) == long_rows.reshape(-1)).all()


@pytest.mark.parametrize(("world_size", "seq_len"), [(2, 16), (4, 16), (8, 8), (16, 4), (3, 16)])
def test_ranks_partition_a_step(
    streams: dict[str, TokenStream], world_size: int, seq_len: int
) -> None:
    # 3 ranks: 6 chunks of a step; 8 and 16 ranks: a chunk is shared by two and by four ranks.
    made = loader(streams, batch_tokens=(6 if world_size == 3 else 4) * CHUNK)
    for step in (0, made.steps - 1):
        alone = made.step_rows(step, seq_len)
        parts = [
            made.step_rows(step, seq_len, rank=rank, world_size=world_size)
            for rank in range(world_size)
        ]
        assert {part.counted for part in parts} == {alone.counted}
        for side in SIDES:
            assert len({len(getattr(part, side)) for part in parts}) == 1
            together = np.concatenate([getattr(part, side) for part in parts])
            assert (together == getattr(alone, side)).all()


def test_every_token_is_a_target_once_per_epoch(streams: dict[str, TokenStream]) -> None:
    # One source, one epoch.
    chunks = len(StreamChunks(TOKENS["long"], CHUNK))
    one = stage_order(OrderKey(1, "stage"), chunks, own=[OrderSource("long", chunks, 1.0)])
    made = opened(one, streams)
    seen = Counter[int]()
    for step in range(made.steps):
        seen.update(made.step_rows(step, 8).targets.reshape(-1).tolist())
    assert seen == Counter(range(1, chunks * CHUNK + 1))


def test_steps_repeat_and_do_not_depend_on_each_other(streams: dict[str, TokenStream]) -> None:
    forward, other = loader(streams), loader(streams)
    expected = [forward.step_rows(step, 8).inputs.tolist() for step in range(forward.steps)]
    backward = [other.step_rows(step, 8).inputs.tolist() for step in reversed(range(other.steps))]
    assert backward[::-1] == expected
    assert forward.steps == 10


def test_what_cannot_be_shared_or_cut_is_refused(streams: dict[str, TokenStream]) -> None:
    made = loader(streams)
    with pytest.raises(UsageError, match="3 ranks cannot share"):
        made.step_rows(0, CHUNK, rank=0, world_size=3)
    with pytest.raises(UsageError, match="seq_len 5 does not divide"):
        made.step_rows(0, 5)
    with pytest.raises(UsageError, match="not a whole number of chunks"):
        loader(streams, batch_tokens=CHUNK + 1)
    with pytest.raises(IndexError, match="step 10"):
        made.step_rows(10, CHUNK)
    with pytest.raises(IndexError, match="rank 2"):
        made.step_rows(0, CHUNK, rank=2, world_size=2)


def test_an_order_for_more_data_than_there_is_is_refused(
    streams: dict[str, TokenStream],
) -> None:
    too_many = stage_order(OrderKey(1, "stage"), 30, own=[OrderSource("long", 30, 1.0)])
    with pytest.raises(UsageError, match="long holds 20 chunks, but the order reads 30"):
        opened(too_many, streams)


def test_a_mixture_takes_own_and_earlier_sources_from_the_manifest(tmp_path: Path) -> None:
    plans = [
        plan(MemorySource("a", sentences(60, about="a")), stage="one"),
        plan(MemorySource("b", sentences(60, about="b")), stage="one"),
        plan(MemorySource("c", sentences(60, about="c")), stage="two"),
    ]
    manifest = prepare_plans(tmp_path, plans=plans)
    weights = {"a": 3.0, "b": 1.0, "c": 0.2}
    small, large = (
        ChunkTable(manifest, tmp_path, packing="stream", chunk_tokens=size)
        for size in (64, 1_000_000)
    )
    own, replay = stage_mixture(manifest, "two", earlier=["one"], weights=weights, chunks=small)
    assert [(source.name, source.weight) for source in own] == [("c", 1.0)]
    assert [(source.name, source.weight) for source in replay] == [("a", 0.75), ("b", 0.25)]
    assert own[0].chunks == (manifest.sources["c"].train.tokens - 1) // 64
    with pytest.raises(UsageError, match="less than one chunk"):
        stage_mixture(manifest, "two", earlier=[], weights=weights, chunks=large)
    with pytest.raises(UsageError, match="no stage three, only one, two"):
        stage_mixture(manifest, "three", earlier=[], weights=weights, chunks=small)


def test_weights_come_from_the_configuration_and_a_folder_weighs_1(tmp_path: Path) -> None:
    plans = [plan(MemorySource(name, sentences(60, about=name)), stage="one") for name in "ab"]
    folder = replace(plan(MemorySource("two", sentences(60)), stage="two"), kind="folder")
    manifest = prepare_plans(tmp_path, plans=[*plans, folder])
    one = stage("one", embedded_sources=[source("a", weight=3.0), source("b", weight=0.5)])
    two = stage("two", hub_sources=[source("two", weight=9.0, hub_id="a/b", text_template="{t}")])
    assert source_weights(manifest, [one, two]) == {"a": 3.0, "b": 0.5, "two": 1.0}
    assert source_weights(manifest, [two]) == {"two": 1.0}
    with pytest.raises(UsageError, match=r"source b in one, whose data\.embedded_sources do not"):
        source_weights(manifest, [stage("one", embedded_sources=[source("a")])])


@pytest.mark.parametrize(("chosen", "weight"), [("hub", 0.2), ("embedded", 1.0), ("far", 1.0)])
def test_documentation_in_both_lists_weighs_what_its_own_list_says(
    tmp_path: Path, chosen: str, weight: float
) -> None:
    docs = replace(plan(MemorySource("docs", sentences(60)), stage="s"), kind="documentation")
    near = plan(MemorySource("near", sentences(60, about="near")), stage="s")
    manifest = prepare_plans(tmp_path, plans=[docs] if chosen == "hub" else [docs, near])
    listed = {"documentation": "package:jinja2"}
    config = stage(
        "s",
        source=str(tmp_path) if chosen == "far" else chosen,
        hub_sources=[source("docs", **{**listed, "weight": 0.2})],
        embedded_sources=[source("docs", **listed), source("near")],
    )
    assert source_weights(manifest, [config])["docs"] == weight
