"""Named places where a test plants a fault; without a test they do nothing.

The one idea: a crash is only as good a test as the place it strikes at. YXANUL_FAILPOINTS names
places, what happens there and at which visits, counted from 1 (all of them, where none is told)::

    checkpoint.renamed=kill@2,rows.metrics=full@5-

`kill` ends the process by SIGKILL, `stop` asks it to end by SIGTERM, `pause` stops it by SIGSTOP
until a SIGCONT comes; `full`, `broken` and `denied`
are the errors of a disk that is full, that fails and that may not be written, `memory` that of a
host out of memory; `wait` sleeps for a minute; `nan`, `tenfold` and `huge` change a number at
places that ask for one.
"""

import errno
import functools
import os
import signal
import time
from collections import Counter
from dataclasses import dataclass

VARIABLE = "YXANUL_FAILPOINTS"
_WAIT_S = 60.0
_ERRORS = {"full": errno.ENOSPC, "broken": errno.EIO, "denied": errno.EACCES}
_NUMBERS = {"nan": float("nan"), "tenfold": 10.0, "huge": 1e30}
_visits: Counter[str] = Counter()


@dataclass(frozen=True)
class _Fault:
    action: str
    first: int
    last: float


def failpoint(name: str) -> None:
    """Do what is planted at this place: raise an `OSError` or `MemoryError`, wait, or die."""
    action = _action(name)
    if action == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif action == "stop":
        os.kill(os.getpid(), signal.SIGTERM)
    elif action == "pause":
        os.kill(os.getpid(), signal.SIGSTOP)
    elif action == "wait":
        time.sleep(_WAIT_S)
    elif action in _ERRORS:
        raise OSError(_ERRORS[action], os.strerror(_ERRORS[action]))
    elif action == "memory":
        raise MemoryError


def planted(name: str, number: float) -> float:
    """Return `number`, multiplied by what is planted at this place."""
    return number * _NUMBERS.get(_action(name) or "", 1.0)


def _action(name: str) -> str | None:
    text = os.environ.get(VARIABLE)
    if not text:
        return None
    _visits[name] += 1
    fault = _parse(text).get(name)
    met = fault is not None and fault.first <= _visits[name] <= fault.last
    return fault.action if fault is not None and met else None


@functools.cache
def _parse(text: str) -> dict[str, _Fault]:
    faults = {}
    for entry in text.split(","):
        name, _, rest = entry.partition("=")
        action, _, visits = rest.partition("@")
        first, dash, last = visits.partition("-")
        begin = int(first or 1)
        end = float(last) if last else float("inf") if dash or not first else float(begin)
        faults[name.strip()] = _Fault(action, begin, end)
    return faults
