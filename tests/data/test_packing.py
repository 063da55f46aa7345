"""Packing loses and doubles no token, cuts few documents, and is the packing of the book."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.data.memory import write_shards
from yxanul.config.tokens import END_OF_TEXT, IGNORED
from yxanul.data.batches.loader import StageLoader, StepRows
from yxanul.data.batches.order import OrderKey, OrderSource, stage_order
from yxanul.data.packing.best_fit import best_fit
from yxanul.data.packing.chunks import PackedChunks
from yxanul.data.packing.shares import packing_shares
from yxanul.data.prepared.shards import TokenStream

CHUNK = 32
documents = st.lists(st.integers(1, 3 * CHUNK), min_size=1, max_size=60)


def one_by_one(lengths: Sequence[int], capacity: int) -> list[int]:
    """Best-fit decreasing as the book has it; return the room left in each bin."""
    rooms: list[int] = []
    for length in sorted(lengths, reverse=True):
        enough = [room for room in rooms if room >= length]
        if enough:
            rooms.remove(min(enough))
        rooms.append((min(enough) if enough else capacity) - length)
    return sorted(rooms)


@given(st.integers(1, 50), st.data())
def test_groups_of_pieces_are_placed_as_one_by_one(capacity: int, data: st.DataObject) -> None:
    lengths = data.draw(st.lists(st.integers(1, capacity), max_size=80))
    bins, count = best_fit(np.array(lengths, dtype=np.int64), capacity)
    rooms = capacity - np.bincount(bins, weights=lengths, minlength=count).astype(int)
    assert sorted(rooms.tolist()) == one_by_one(lengths, capacity)


@given(documents, st.sampled_from([CHUNK, 16, 8, 4, 1]))
def test_every_token_but_the_last_is_an_input_exactly_once(
    lengths: list[int], seq_len: int
) -> None:
    packed = PackedChunks(np.array(lengths, dtype=np.int64), CHUNK)
    rows = CHUNK // seq_len
    read: Counter[int] = Counter()
    for chunk in range(len(packed)):
        taken: Counter[int] = Counter()
        for piece in packed.pieces(chunk, seq_len, first=0, last=rows):
            places = range(piece.offset, piece.offset + piece.tokens)
            assert places.start // seq_len == (places.stop - 1) // seq_len, "within one row"
            taken.update(places)
            read.update(range(piece.start, piece.start + piece.tokens))
        assert set(taken.values()) <= {1}
        assert set(taken) <= set(range(CHUNK))
        assert len(taken) == packed.targets(np.array([chunk], dtype=np.uint32))
    assert read == Counter(range(sum(lengths) - 1))


@given(documents)
def test_only_documents_longer_than_a_chunk_are_cut(lengths: list[int]) -> None:
    whole, *shorter = packing_shares(
        "text", np.array([*lengths, 2], dtype=np.int64), chunk_tokens=CHUNK
    )
    assert whole.seq_len == CHUNK
    assert whole.cut_packed == whole.longer
    assert [one.seq_len for one in shorter] == [16, 8, 4]
    for one in (whole, *shorter):
        assert one.longer <= one.cut_in_stream
        assert one.longer <= one.cut_packed
        assert one.padding == whole.padding


def test_shares_are_those_of_a_small_example() -> None:
    # 20 and 12 fill a chunk of 32 (the last 1 of the stream has no target); 10 + 22 the other.
    one = next(packing_shares("text", np.array([20, 10, 22, 13]), chunk_tokens=CHUNK))
    assert one.cut_in_stream == 2 / 4  # at 32: the third; at 64: the last
    assert (one.cut_packed, one.padding) == (0.0, 0.0)
    assert list(packing_shares("text", np.array([], dtype=np.int64), chunk_tokens=CHUNK)) == []


@pytest.fixture(scope="module")
def lengths() -> list[int]:
    return np.random.default_rng(3).integers(2, 80, size=50).tolist()


@pytest.fixture(scope="module")
def loader(lengths: list[int], tmp_path_factory: pytest.TempPathFactory) -> StageLoader:
    """One epoch of documents whose tokens tell their own place in the stream: 0, 1, 2 ..."""
    root = tmp_path_factory.mktemp("packed")
    tokens = np.arange(sum(lengths), dtype=np.uint16)
    files = write_shards(root / "text", "train", parts=[tokens], shard_tokens=101)
    packed = PackedChunks(np.array(lengths, dtype=np.int64), CHUNK)
    order = stage_order(
        OrderKey(1, "stage"), len(packed) // 4 * 4, own=[OrderSource("text", len(packed), 1.0)]
    )
    return StageLoader(
        order,
        {"text": TokenStream([root / file.path for file in files])},
        chunks={"text": packed},
        chunk_tokens=CHUNK,
        batch_tokens=4 * CHUNK,
    )


@pytest.mark.parametrize("seq_len", [CHUNK, 8])
def test_targets_follow_and_padding_has_none(
    loader: StageLoader, lengths: list[int], seq_len: int
) -> None:
    begins = set(np.cumsum([0, *lengths]).tolist())
    for step in range(loader.steps):
        rows = loader.step_rows(step, seq_len)
        real = rows.targets != IGNORED
        assert (rows.targets[real] == rows.inputs[real] + 1).all()
        assert (rows.inputs[~real] == END_OF_TEXT).all()
        assert int(real.sum()) == rows.counted
        # Wherever tokens do not go on within a row, a piece begins; every document begins one.
        goes_on = np.diff(rows.inputs, axis=1) == 1
        assert (rows.starts[:, 1:] | goes_on | ~real[:, 1:]).all()
        assert rows.starts[real & np.isin(rows.inputs, list(begins))].all()
        assert not rows.starts[~real].any()


def test_ranks_share_a_step_and_agree_on_its_targets(loader: StageLoader) -> None:
    for seq_len, ranks in ((CHUNK, 2), (8, 8), (8, 16)):
        whole = loader.step_rows(0, seq_len)
        parts = [loader.step_rows(0, seq_len, rank=r, world_size=ranks) for r in range(ranks)]
        assert {part.counted for part in parts} == {whole.counted}
        for side in ("inputs", "targets", "starts"):
            together = np.concatenate([getattr(part, side) for part in parts])
            assert (together == getattr(whole, side)).all()


def test_the_same_tokens_are_in_a_step_at_any_length(loader: StageLoader) -> None:
    def read(rows: StepRows) -> list[int]:
        return sorted(rows.targets[rows.targets != IGNORED].tolist())

    for step in range(loader.steps):
        whole = read(loader.step_rows(step, CHUNK))
        assert whole == read(loader.step_rows(step, 4))
