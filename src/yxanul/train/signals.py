"""A polite stop: the first SIGINT or SIGTERM asks, the second leaves at once."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class StopRequest:
    """Remembers that somebody asked the run to stop."""

    def __init__(self) -> None:
        self.signal_name: str | None = None

    @property
    def asked(self) -> bool:
        """Whether a stop was asked for."""
        return self.signal_name is not None

    def _receive(self, number: int, _frame: FrameType | None) -> None:
        if self.asked:
            # 130 for SIGINT, 143 for SIGTERM, as shells count; nothing is flushed, nothing is half
            # renamed.
            os._exit(128 + number)
        self.signal_name = signal.Signals(number).name


@contextmanager
def stop_on_signals() -> Iterator[StopRequest]:
    """Turn SIGINT and SIGTERM into a request inside the block."""
    request = StopRequest()
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, request._receive) for number in numbers}
    try:
        yield request
    finally:
        for number, receiver in before.items():
            signal.signal(number, receiver)
