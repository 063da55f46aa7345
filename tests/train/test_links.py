"""What ranks measure of one another, and who is named as slow."""

import json

import pytest
import torch

from tests.train.world import World
from yxanul.parallel.processes import ALONE
from yxanul.train.processes.links import Links, measure_links, slow_ranks


def test_a_process_alone_has_no_links():
    assert measure_links(ALONE, torch.device("cpu")) is None


def test_an_exchange_is_counted_by_the_bytes_that_each_rank_sends():
    links = Links(1e9, rates=(("a", 1e12), ("b", 1e12), ("c", 1e12), ("d", 1e12)))
    assert links.exchange_s(2_000_000_000) == pytest.approx(3.0)
    assert (
        "4 processes: 1.00 GB/s; one exchange of all gradients takes about 3,000 ms"
        in (links.sentences(2_000_000_000)[0])
    )


def test_a_rank_far_below_the_median_is_named_and_others_are_not():
    rates = [("one, process 0", 600e12), ("one, process 1", 590e12), ("two, process 2", 400e12)]
    assert slow_ranks(rates) == [
        "two, process 2 multiplies at 400.00 TFLOP/s, 68% of the median; every step waits for it"
    ]
    assert slow_ranks(rates[:2]) == []


@pytest.mark.slow
def test_two_processes_measure_their_bus_and_write_it_down(tmp_path):
    world = World.create(tmp_path)
    told = world.launch("run", "run", "--max_steps", "1").stderr
    assert "bus between 2 processes: " in told
    environment = json.loads((world.root / "run" / "environment.json").read_text())
    assert environment["links"]["bus_bytes_per_s"] > 1e6
    assert len(environment["links"]["rates"]) == 2
    row = next(f for f in environment["features"] if f["name"] == "direct bus between cards")
    assert "GB/s in an all-reduce, just measured" in row["reason"]
