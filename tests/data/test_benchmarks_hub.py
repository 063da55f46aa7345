"""Benchmarks come from the hub whole, at a commit that is written down, through the same client as
the training data: what breaks is tried again, what is refused is refused in the same sentences."""

from collections.abc import Iterator

import pytest

from tests.data.bench_rows import gsm8k_rows
from tests.data.hub_reader import Reader, reading_from
from tests.data.hub_sets import files_of_splits, public_sets
from tests.data.hub_standin import Fault, HubSet, StandIn, parquet, running


@pytest.fixture(scope="module")
def hub() -> Iterator[StandIn]:
    with running(StandIn(public_sets())) as standin:
        yield standin


@pytest.fixture(scope="module")
def reader(hub: StandIn, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reader]:
    with reading_from(hub, tmp_path_factory.mktemp("home")) as program:
        yield program


@pytest.mark.parametrize(
    ("task", "hub_id", "part", "shots"),
    [
        ("hellaswag", "Rowan/hellaswag", "validation", 9),
        ("triviaqa", "mandarjoshi/trivia_qa", "rc.nocontext, validation", 9),
        ("gsm8k", "openai/gsm8k", "main, test", 9),
        ("humaneval", "openai/openai_humaneval", "test", 12),
    ],
)
def test_a_set_is_read_whole_with_its_commit_and_its_examples(
    hub, reader, task, hub_id, part, shots
) -> None:
    hub.break_with()
    found = reader.read_benchmark(task, with_shots=True)
    assert found["origin"] == f"{hub_id}@{hub.sets[hub_id].sha}, {part}"
    assert len(found["items"]) == 12
    assert len(found["shots"]) == shots
    assert (found["shots"] == found["items"]) is (task == "humaneval")
    assert reader.read_benchmark(task)["shots"] == []


def test_what_breaks_is_tried_again_and_told(hub, reader) -> None:
    hub.sets["openai/gsm8k"].renew()
    hub.break_with(Fault("/cdn/", "cut"), Fault("/api/", 503))
    found = reader.read_benchmark("gsm8k")
    assert len(found["items"]) == 12
    assert all(line.startswith("openai/gsm8k: the hub ") for line in found["news"])
    assert len(found["news"]) == 2


def test_an_outage_names_the_set_and_the_folder_that_does_without(hub, reader) -> None:
    hub.break_with(Fault("", 503, times=99))
    found = reader.read_benchmark("triviaqa")
    assert found["exit_code"] == 11
    for part in ("mandarjoshi/trivia_qa", "could not be reached", "--bench_dir DIR", "HF_TOKEN"):
        assert part in found["error"]
    assert "--data" not in found["error"]
    assert "where it stopped" not in found["error"]
    hub.break_with()


def test_a_set_that_is_gone_or_private_is_refused_at_once(hub, reader) -> None:
    hub.break_with()
    left = hub.sets.pop("Rowan/hellaswag")
    try:
        found = reader.read_benchmark("hellaswag")
    finally:
        hub.sets["Rowan/hellaswag"] = left
    assert found["exit_code"] == 30
    for part in ("Rowan/hellaswag", "HTTP 401", "--bench_dir DIR"):
        assert part in found["error"]
    assert found["news"] == []


def test_another_schema_is_refused_with_the_row(hub, reader) -> None:
    hub.break_with()
    rows = gsm8k_rows(3)
    rows[1] = rows[1] | {"answer": "no number"}
    kept = hub.sets["openai/gsm8k"]
    hub.sets["openai/gsm8k"] = HubSet(files_of_splits("main", test=parquet(rows)))
    try:
        found = reader.read_benchmark("gsm8k")
    finally:
        hub.sets["openai/gsm8k"] = kept
    assert found["exit_code"] == 31
    assert "The data set openai/gsm8k, test, row 2, has an answer" in found["error"]


def test_a_split_that_the_set_does_not_have_is_named(hub, reader) -> None:
    hub.break_with()
    kept = hub.sets["openai/gsm8k"]
    hub.sets["openai/gsm8k"] = HubSet(files_of_splits("main", test=parquet(gsm8k_rows(3))))
    try:
        found = reader.read_benchmark("gsm8k", with_shots=True)
    finally:
        hub.sets["openai/gsm8k"] = kept
    assert found["exit_code"] == 30
    assert "Task gsm8k: hub_config 'main' or hub_split 'train' does not fit" in found["error"]


def test_offline_the_hub_is_not_asked(hub, tmp_path_factory) -> None:
    with reading_from(hub, tmp_path_factory.mktemp("offline"), HF_HUB_OFFLINE="1") as offline:
        found = offline.read_benchmark("humaneval")
    assert found["exit_code"] == 30
    for part in ("unset HF_HUB_OFFLINE", "openai/openai_humaneval", "--bench_dir DIR"):
        assert part in found["error"]
