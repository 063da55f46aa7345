"""What a process does when its terminal goes away: it goes on, and has nobody to tell.

The one idea: a dropped ssh is a SIGHUP, and after it an error from every write. Neither may end
work that somebody pays for by the hour.
"""

import errno
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO, cast

_NOBODY_READS = (errno.EIO, errno.EPIPE)


@contextmanager
def outliving_terminal() -> Iterator[None]:
    """Ignore SIGHUP inside the block, and what stdout and stderr cannot take.

    A full disk behind stdout is an error all the same: what is printed there are results.
    """
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    out, err = sys.stdout, sys.stderr
    sys.stdout = cast("TextIO", _Lasting(out, loses=_NOBODY_READS))
    sys.stderr = cast("TextIO", _Lasting(err, loses=None))
    try:
        yield
    finally:
        sys.stdout, sys.stderr = out, err
        signal.signal(signal.SIGHUP, before)


class _Lasting:
    """A text stream that loses what cannot be written, for the reasons `loses`; None: for any."""

    def __init__(self, stream: TextIO, *, loses: tuple[int, ...] | None) -> None:
        self._stream, self._loses = stream, loses

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        try:
            self._stream.write(text)
        except OSError as error:
            self._lose(error)
        return len(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except OSError as error:
            self._lose(error)

    def _lose(self, error: OSError) -> None:
        """Let what comes later go nowhere, where nobody will read again; a full disk may empty."""
        if self._loses is not None and error.errno not in self._loses:
            raise error
        if error.errno in _NOBODY_READS:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)
