"""Processes of a pool leave signals to their parent."""

import os
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pytest

from yxanul import cores
from yxanul.data.children import end_with_parent, most_processes


@pytest.mark.parametrize(("gib", "processes"), [(0.5, 1), (4, 4), (4.9, 4), (64, 16)])
def test_a_small_container_of_many_cores_is_not_filled_with_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gib: float, processes: int
) -> None:
    (tmp_path / "memory.max").write_text(f"{int(gib * 2**30)}\n")
    monkeypatch.setattr(cores, "_CGROUP", tmp_path)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(16)))
    monkeypatch.setattr(os, "sysconf", {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": 2**25}.__getitem__)
    assert most_processes() == processes


def test_a_process_of_a_pool_is_out_of_the_way_of_signals_to_the_parents_group():
    with ProcessPoolExecutor(1, get_context("spawn"), initializer=end_with_parent) as pool:
        assert pool.submit(os.getpgid, 0).result(60) != os.getpgid(0)
