"""How long the hub is waited for: exponential back-off with full jitter, told and bounded.

The one idea: a failure that waiting may cure is an `Again`, and a `Line` decides whether it is
tried again. A hub that never answered is given up at once, since a machine without a network does
not get one by waiting; one that answered and broke is worth a minute. Full jitter (a wait drawn
evenly between nothing and the limit) keeps many machines from coming back at the same moment.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

Result = TypeVar("Result")

TRY_AGAIN = (408, 425, 429)
"""Request timeout, too early, too many requests: answers below 500 that another try may cure."""
# Long waits are told again this often; whoever listens may also stop the work then.
_TELL_S = 15.0


@dataclass(frozen=True, slots=True)
class Patience:
    """What waiting may cost; times in seconds.

    `tries` of one request, `first_contact_tries` while the hub has never answered; waits grow from
    `first_wait_s` by doubling up to `longest_wait_s`. The hub's own Retry-After is honoured up to
    `longest_asked_wait_s` (it counts requests in windows of five minutes). `total_s` bounds all
    tries of one request. A connection that is silent for `silence_s` is broken.
    """

    tries: int = 8
    first_contact_tries: int = 2
    first_wait_s: float = 1.0
    longest_wait_s: float = 30.0
    longest_asked_wait_s: float = 300.0
    total_s: float = 900.0
    silence_s: float = 15.0

    def limit_s(self, failures: int) -> float:
        """Return the longest wait after so many failures in a row (1 and more)."""
        return min(self.longest_wait_s, self.first_wait_s * 2.0 ** min(failures - 1, 30))


class Again(Exception):  # noqa: N818  (what to do, not what is wrong)
    """An attempt failed as the hub does now and then; `asked_wait_s` is its Retry-After."""

    def __init__(self, reason: str, asked_wait_s: float | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.asked_wait_s = asked_wait_s


class GaveUp(Exception):  # noqa: N818
    """The last try failed too; the text is a phrase such as "answered 503, 8 times"."""


@dataclass(slots=True)
class Line:
    """The line to the hub while one data set is read: it knows whether anybody ever answered."""

    hub_id: str
    news: Callable[[str], None]
    patience: Patience = field(default_factory=Patience)
    reached: bool = False

    def call(self, attempt: Callable[[], Result]) -> Result:
        """Return what `attempt` returns, however often it raises Again first; raise GaveUp."""
        started, failures = time.monotonic(), 0
        while True:
            try:
                return attempt()
            except Again as again:
                failures += 1
                self.pause(again, failures=failures, started=started)

    def pause(self, again: Again, *, failures: int, started: float) -> None:
        """Wait before the next try and say so; raise GaveUp if there is none.

        `failures` counts those in a row, `started` is the time.monotonic() of the first try.
        """
        tries = self.patience.tries if self.reached else self.patience.first_contact_tries
        wait_s = random.uniform(0.0, self.patience.limit_s(failures))
        if again.asked_wait_s is not None:
            wait_s = min(again.asked_wait_s, self.patience.longest_asked_wait_s)
        late = time.monotonic() + wait_s - started > self.patience.total_s
        if failures >= tries or late:
            times = f", {failures} times" if failures > 1 else ""
            raise GaveUp(f"{again.reason}{times}") from again
        self.news(
            f"{self.hub_id}: the hub {again.reason}; waiting {_seconds(wait_s)}, "
            f"try {failures + 1} of {tries}"
        )
        self._wait(wait_s)

    def _wait(self, wait_s: float) -> None:
        until = time.monotonic() + wait_s
        while (left_s := until - time.monotonic()) > 0:
            time.sleep(min(left_s, _TELL_S))
            if left_s > 2 * _TELL_S:
                self.news(f"{self.hub_id}: waiting for the hub, {_seconds(left_s - _TELL_S)} more")


def _seconds(wait_s: float) -> str:
    return f"{wait_s:.1f} s" if wait_s < 10 else f"{wait_s:.0f} s"
