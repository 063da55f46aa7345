"""How many processes work beside this one, and that none of them outlives it."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading

# Each holds its own words and tables, up to half a gigabyte.
_MOST_PROCESSES = 32


def usable_cores() -> int:
    """Return the cores that this process may use, 32 at most."""
    if hasattr(os, "sched_getaffinity"):  # not on macOS
        return min(_MOST_PROCESSES, len(os.sched_getaffinity(0)))
    return min(_MOST_PROCESSES, os.cpu_count() or 1)


def end_with_parent() -> None:
    """Leave Ctrl-C to the parent, and end this process as soon as the parent has ended.

    For the processes of a pool: the terminal sends Ctrl-C to all of them, and SIGKILL ends their
    parent without a word to them.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None  # this runs in a process of a pool
    threading.Thread(target=_leave_after, args=(parent,), daemon=True).start()


def _leave_after(parent: multiprocessing.process.BaseProcess) -> None:
    parent.join()
    os._exit(1)
