"""The first lines that run: what must be set before torch is loaded."""

import os
import sys
from collections.abc import Sequence


def start(arguments: Sequence[str] | None = None) -> None:
    """Run the program and leave with its exit code."""
    # OpenMP threads that wait by spinning take the cores from whatever else runs on the machine:
    # beside one other process a step on two cores took twice as long. The user's setting wins.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        from yxanul.cli.main import main

        main(arguments)
    except KeyboardInterrupt:  # while torch is loaded, which takes seconds
        sys.exit(130)
