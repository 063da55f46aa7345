"""What every test runs under: one thread per process, no network, examples that repeat."""

import os

# Set before torch is imported, and inherited by the programs that tests start. One thread gives
# the same sums everywhere, and `make test` runs one process per core.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["MKL_NUM_THREADS"] = "1"
# The hub's own switch: a test that would reach for the network fails at once.
os.environ["HF_HUB_OFFLINE"] = "1"

from hypothesis import settings

settings.register_profile("yxanul", derandomize=True, deadline=None, database=None, max_examples=50)
settings.load_profile("yxanul")
