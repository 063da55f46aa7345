"""Processes of a pool leave signals to their parent."""

import os
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

from yxanul.data.children import end_with_parent


def test_a_process_of_a_pool_is_out_of_the_way_of_signals_to_the_parents_group():
    with ProcessPoolExecutor(1, get_context("spawn"), initializer=end_with_parent) as pool:
        assert pool.submit(os.getpgid, 0).result(60) != os.getpgid(0)
