"""How many processes work beside this one, and that none of them outlives it."""

from __future__ import annotations

import multiprocessing
import os
import threading

from yxanul.cores import usable_cores

# Each holds its own words and tables, up to half a gigabyte.
_MOST_PROCESSES = 32


def most_processes() -> int:
    """Return how many processes treat texts: one for each core, 32 at most."""
    return min(_MOST_PROCESSES, usable_cores())


def end_with_parent() -> None:
    """Leave signals to the parent, and end this process as soon as the parent has ended.

    For the processes of a pool: a terminal sends Ctrl-C to the whole group, a supervisor SIGTERM as
    well, and SIGKILL ends their parent without a word to them.
    """
    os.setpgid(0, 0)
    parent = multiprocessing.parent_process()
    assert parent is not None  # this runs in a process of a pool
    threading.Thread(target=_leave_after, args=(parent,), daemon=True).start()


def _leave_after(parent: multiprocessing.process.BaseProcess) -> None:
    parent.join()
    os._exit(1)
