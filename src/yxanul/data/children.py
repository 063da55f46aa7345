"""How many processes work beside this one, that none outlives it, and which variables they have."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import Any

from yxanul.cores import usable_cores, usable_memory
from yxanul.errors import InfrastructureError

_MOST_PROCESSES = 32
# Each holds its own words and tables, up to half of that, and what a large text takes.
_BYTES_EACH = 1 << 30
# Words of a variable's name that tell a secret: HF_TOKEN, AWS_SECRET_ACCESS_KEY, GITHUB_PAT.
_SECRETS = {"TOKEN", "SECRET", "KEY", "APIKEY", "PASSWORD", "PASSWD", "CREDENTIALS"}
_SECRETS |= {"PASS", "PWD", "PAT"}
_FOLDER = "PWD"  # the whole name: where a shell stands


def most_processes() -> int:
    """Return how many processes treat texts: one for each core and GiB of memory, 32 at most."""
    return max(1, min(_MOST_PROCESSES, usable_cores(), usable_memory() // _BYTES_EACH))


def begin_as_child() -> None:
    """Begin a process of a pool: it ends with its parent, and secrets leave its os.environ.

    It treats texts of strangers with libraries of strangers, and asks nothing of the hub. Secrets
    are known by the usual names; a program that looks for them outside os.environ still finds them.
    """
    end_with_parent()
    for name in list(os.environ):
        if _tells_a_secret(name.upper()):
            del os.environ[name]


@contextmanager
def children(
    count: int,
    what: str,
    *,
    begin: Callable[..., None] = begin_as_child,
    given: tuple[Any, ...] = (),
) -> Iterator[ProcessPoolExecutor]:
    """Hold so many processes, each of which begins with `begin(*given)`; none outlives the block.

    Raises `InfrastructureError` if one that did `what` ("treated texts") is killed.
    """
    # Spawned, since a process that runs torch's threads must not be forked.
    spawn = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(count, spawn, initializer=begin, initargs=given)
    try:
        yield pool
    except BrokenProcessPool as error:
        raise InfrastructureError(
            f"a process that {what} was killed, perhaps for want of memory; start the same command "
            "again, and if that does not help, on fewer cores: "
            f"{_on_half(count)} COMMAND (on Linux)"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _on_half(count: int) -> str:
    """Return the command that gives half of the cores of so many processes to another."""
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else range(count)
    return f"taskset -c {','.join(map(str, cores[: max(1, count // 2)]))}"


def _tells_a_secret(name: str) -> bool:
    has_word = not _SECRETS.isdisjoint(name.split("_")) and name != _FOLDER
    return has_word or name.endswith("PASSWORD")


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
