"""The first lines that run: what must be set before torch is loaded."""

import os
import sys
from collections.abc import Sequence

from yxanul.hardware.memory import settle_allocator
from yxanul.terminal import open_closed_streams


def start(arguments: Sequence[str] | None = None) -> None:
    """Run the program and leave with its exit code."""
    open_closed_streams()
    settle_openmp()
    settle_allocator()
    try:
        from yxanul.cli.main import main

        main(arguments)
    except KeyboardInterrupt:  # while torch is loaded, which takes seconds
        sys.exit(130)


def settle_openmp() -> None:
    """Say how threads wait; torch reads it once, when it is loaded."""
    # OpenMP threads that spin while they wait take the cores from whatever else runs there, and
    # threads that sleep at once are woken late (docs/log.md, 2026-11-26): GNU's spin a little.
    # The user's settings win.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
