"""The order of chunks is exact, spread out, reproducible, and a function of its key alone."""

import time
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.data.memory import stage
from yxanul.data.batches.order import (
    OrderKey,
    OrderSource,
    StageOrder,
    mixture_counts,
    permutation,
    splitmix64,
    stage_order,
)
from yxanul.errors import UsageError

KEY = OrderKey(seed=42, stage="stage2_reasoning", attempt=0)


def groups(prefix: str, largest: int) -> st.SearchStrategy[list[OrderSource]]:
    numbers = st.tuples(st.integers(1, 40), st.floats(0.01, 10, allow_nan=False))
    return st.lists(numbers, min_size=1, max_size=largest).map(
        lambda items: [OrderSource(f"{prefix}{i}", n, w) for i, (n, w) in enumerate(items)]
    )


MIXTURES = st.fixed_dictionaries(
    {
        "own": groups("own", 4),
        "replay": groups("old", 3) | st.just([]),
        "replay_share": st.floats(0, 0.5),
    }
)


def example(**changes: object) -> StageOrder:
    settings = {
        "own": [OrderSource("traces", 70, 0.75), OrderSource("games", 11, 0.25)],
        "replay": [OrderSource("wiki", 500, 2.0), OrderSource("facts", 3, 1.0)],
        "replay_share": 0.1,
    }
    return stage_order(KEY, 1000, **(settings | changes))  # type: ignore[arg-type]


def test_splitmix64_is_the_published_generator() -> None:
    # The first outputs for seed 1234567, as in the reference implementation's test vectors.
    assert splitmix64(1234567, 3).tolist() == [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
    ]


def test_the_order_has_not_changed_since_it_was_first_written_down() -> None:
    # Golden: another value means that runs started before the change resume on other data.
    assert example().sha256() == (
        "4f59fc05333f7805ff0a81eda3ddd461f7f8611bc9fad8a53809a36a7137ae9c"
    )


@given(mixture=MIXTURES, n_chunks=st.integers(0, 300))
def test_every_source_has_its_share_to_within_one_chunk(mixture: dict, n_chunks: int) -> None:
    counts = mixture_counts(n_chunks, **mixture)
    share = mixture["replay_share"] if mixture["replay"] else 0.0
    exact = []
    for sources, part in ((mixture["own"], 1 - share), (mixture["replay"], share)):
        total = sum(source.weight for source in sources)
        exact += [n_chunks * part * source.weight / total for source in sources]
    assert sum(counts) == n_chunks
    assert all(abs(count - plan) < 1 + 1e-9 for count, plan in zip(counts, exact, strict=True))


@given(mixture=MIXTURES, n_chunks=st.integers(1, 300))
def test_every_chunk_of_a_source_is_read_equally_often(mixture: dict, n_chunks: int) -> None:
    order = stage_order(KEY, n_chunks, **mixture)
    counts = mixture_counts(n_chunks, **mixture)
    sources = [*mixture["own"], *mixture["replay"]]
    assert order.sources == tuple(source.name for source in sources)
    for number, (source, count) in enumerate(zip(sources, counts, strict=True)):
        read = order.chunk_index[order.source_index == number]
        assert len(read) == count
        for start in range(0, count, source.chunks):  # each epoch is a permutation
            epoch = read[start : start + source.chunks].tolist()
            assert len(set(epoch)) == len(epoch)
        times = Counter(read.tolist())
        low = count // source.chunks
        assert all(low <= times[chunk] <= low + 1 for chunk in range(source.chunks))


@given(mixture=MIXTURES, n_chunks=st.integers(1, 300), data=st.data())
def test_every_stretch_of_the_stage_follows_the_mixture(
    mixture: dict, n_chunks: int, data: st.DataObject
) -> None:
    order = stage_order(KEY, n_chunks, **mixture)
    counts = mixture_counts(n_chunks, **mixture)
    stop = data.draw(st.integers(0, n_chunks))
    for number, count in enumerate(counts):
        read = int((order.source_index[:stop] == number).sum())
        # Each source is off by less than 1 at a point of time, and that point by the sum of these.
        assert abs(read - count * stop / n_chunks) < len(counts) + 1


def test_epochs_of_a_source_have_different_orders() -> None:
    order = example()
    games = order.chunk_index[order.source_index == 1]
    assert games[:11].tolist() != games[11:22].tolist()
    assert sorted(games[:11].tolist()) == sorted(games[11:22].tolist())


@pytest.mark.parametrize(
    "key",
    [
        OrderKey(43, "stage2_reasoning", 0),
        OrderKey(42, "stage3_math", 0),
        OrderKey(42, "stage2_reasoning", 1),
    ],
)
def test_seed_stage_and_attempt_each_change_the_order(key: OrderKey) -> None:
    own = [OrderSource("traces", 70, 1.0)]
    assert stage_order(key, 70, own=own).sha256() != stage_order(KEY, 70, own=own).sha256()


def test_without_earlier_stages_the_replay_share_goes_to_the_own_sources() -> None:
    order = example(replay=[])
    assert set(order.sources) == {"traces", "games"}
    assert len(order) == 1000


def test_a_source_without_a_chunk_is_refused() -> None:
    with pytest.raises(UsageError, match="tiny is smaller than one chunk"):
        stage_order(KEY, 10, own=[OrderSource("tiny", 0, 1.0)])


def test_a_stage_without_sources_is_refused() -> None:
    with pytest.raises(UsageError, match="without sources"):
        stage_order(KEY, 10, own=[])


@given(n=st.integers(0, 200), key=st.integers(0, 2**64 - 1))
def test_a_permutation_holds_everything_once(n: int, key: int) -> None:
    assert sorted(permutation(n, key).tolist()) == list(range(n))


def test_the_order_of_the_flagship_is_cheap() -> None:
    # 30B tokens in chunks of 4,096: stage 2 of the promised plan.
    own = [OrderSource("a", 3_000_000, 0.7), OrderSource("b", 900_000, 0.3)]
    replay = [OrderSource("c", 3_500_000, 1.0)]
    start = time.process_time()
    np.random.default_rng(0).permutation(7_324_218)
    shuffled = time.process_time()
    order = stage_order(KEY, 7_324_218, own=own, replay=replay, replay_share=0.1)
    # Eight times the seconds of numpy's own shuffling, on whatever machine.
    assert time.process_time() - shuffled < 40 * (shuffled - start)
    assert order.source_index.nbytes + order.chunk_index.nbytes == 6 * 7_324_218
    assert order.source_index.dtype == np.uint16
    assert order.chunk_index.dtype == np.uint32


@pytest.mark.parametrize(("share", "ramp"), [(0.5, 0.2), (0.1, 0.2), (0.25, 0.5), (0.3, 0.1)])
def test_a_ramp_brings_the_mixture_in_along_a_line_and_changes_no_count(
    share: float, ramp: float
) -> None:
    own = [OrderSource("a", 5000, 0.75), OrderSource("b", 300, 0.25)]
    replay = [OrderSource("old", 4000, 1.0)]
    n = 40_000
    hard = stage_order(KEY, n, own=own, replay=replay, replay_share=share)
    soft = stage_order(KEY, n, own=own, replay=replay, replay_share=share, ramp_fraction=ramp)
    counts = [np.bincount(order.source_index, minlength=3).tolist() for order in (hard, soft)]
    assert counts[0] == counts[1]
    # Each source gives the same chunks in the same order, only at other moments.
    for source in range(3):
        one, other = (order.chunk_index[order.source_index == source] for order in (hard, soft))
        assert np.array_equal(one, other)
    after = (share - ramp / 2) / (1 - ramp / 2)
    replayed = soft.source_index == 2
    middles = np.arange(20) / 20 + 1 / 40
    expected = np.where(middles < ramp, 1 - (1 - after) * middles / ramp, after)
    found = replayed.reshape(20, -1).mean(axis=1)
    assert np.abs(found - expected).max() < 0.03
    # The own sources keep their shares of what is new.
    new = soft.source_index[~replayed].reshape(-1, 10)[: len(soft.source_index) // 20]
    assert abs((new == 1).mean() - 0.25) < 0.01


def test_without_replay_there_is_no_ramp() -> None:
    own = [OrderSource("a", 50, 1.0)]
    plain = stage_order(KEY, 500, own=own)
    assert stage_order(KEY, 500, own=own, ramp_fraction=0.2).sha256() == plain.sha256()


def test_a_ramp_that_replay_cannot_fill_is_refused() -> None:
    with pytest.raises(ValueError, match=r"ramp_fraction \(0.3\) is more than twice replay_share"):
        stage("one", replay_share=0.1, ramp_fraction=0.3)


@given(mixture=MIXTURES, begin=st.integers(0, 90), length=st.integers(0, 60))
def test_what_is_left_out_is_read_by_no_source_that_has_anything_else(
    mixture: dict[str, object], begin: int, length: int
) -> None:
    before = stage_order(KEY, 100, **mixture)  # type: ignore[arg-type]
    after = stage_order(OrderKey(42, KEY.stage, attempt=1), 80, **mixture)  # type: ignore[arg-type]
    trouble = before.part(begin, begin + length)
    groups_of = [*mixture["own"], *mixture["replay"]]  # type: ignore[misc]
    chunks = {source.name: source.chunks for source in groups_of}
    found = after.without(trouble, chunks=chunks)
    assert found.sources == after.sources
    assert np.array_equal(found.source_index, after.source_index)
    for number, name in enumerate(found.sources):
        mine = found.source_index == number
        left_out = set(trouble.chunk_index[trouble.source_index == number].tolist())
        read, would_be = found.chunk_index[mine], after.chunk_index[mine]
        assert len(read) == 0 or int(read.max()) < chunks[name]
        if len(left_out) < chunks[name]:
            assert not left_out & set(read.tolist())
        untouched = ~np.isin(would_be, list(left_out)) | (len(left_out) == chunks[name])
        assert np.array_equal(read[untouched], would_be[untouched])
