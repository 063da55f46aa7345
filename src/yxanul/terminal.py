"""What a process does when nobody reads what it says: a run goes on, other work may end.

The one idea: a dropped ssh is a SIGHUP, and after it an error from every write. Neither may end
work that somebody pays for by the hour.
"""

import errno
import io
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, TextIO, cast

from rich.console import Console

_NOBODY_READS = (errno.EIO, errno.EPIPE)


class ReaderLeftError(OSError):
    """Nobody reads stdout any more: the reader of a pipe has seen enough, as `| head` has."""


class StdoutError(OSError):
    """What stdout leads to does not take what is written, as a full disk does not."""


def has_room_for_bar(console: Console) -> bool:
    """Tell whether a console writes to a terminal, and rich takes it for one, too.

    FORCE_COLOR and TTY_COMPATIBLE=1, which CI sets, make rich take a log for a terminal.
    """
    return console.file.isatty() and console.is_terminal


def open_closed_streams() -> None:
    """Let standard streams that were closed before the start lead nowhere.

    Else the next file that is opened takes such a stream's number, and what a library of C writes
    to stderr goes into it; and `print` to a stream that is none prints to stdout.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            # In this order: the lowest free number, which open takes, is this stream's own.
            nowhere = os.open(os.devnull, os.O_RDWR)
            setattr(sys, name, os.fdopen(nowhere, mode, encoding="utf-8"))


@contextmanager
def heeding_readers() -> Iterator[None]:
    """Raise `ReaderLeftError` inside the block where stdout has no reader any more.

    Libraries answer a broken pipe themselves, with exit code 1 and whichever pipe it was. News that
    stderr cannot take are lost alone, or they would end in a code of their own. What stdout's
    encoding lacks is written as an escape.
    """
    out, err = sys.stdout, sys.stderr
    if isinstance(out, io.TextIOWrapper):
        out.reconfigure(errors="backslashreplace")  # a path need not be UTF-8
    # A terminal that is gone has no reader who had seen enough: the exit code stays what it is.
    gone = partial(_lose, out, reasons=(errno.EIO,))
    sys.stdout = _guarded(out, gone if out.isatty() else _tell)
    sys.stderr = _guarded(err, partial(_lose, err, reasons=None))
    try:
        yield
    finally:
        sys.stdout, sys.stderr = out, err


@contextmanager
def outliving_terminal() -> Iterator[None]:
    """Ignore SIGHUP inside the block, and what stdout and stderr cannot take.

    A full disk behind stdout is an error all the same: what is printed there are results.
    """
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    out, err = sys.stdout, sys.stderr
    sys.stdout = _guarded(out, partial(_lose, out, reasons=_NOBODY_READS))
    sys.stderr = _guarded(err, partial(_lose, err, reasons=None))
    try:
        yield
    finally:
        sys.stdout, sys.stderr = out, err
        signal.signal(signal.SIGHUP, before)


class _Guarded:
    """A text stream that loses what cannot be written, unless `failed` raises the error."""

    def __init__(self, stream: TextIO, failed: Callable[[OSError], None]) -> None:
        self._stream, self._failed = stream, failed

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        try:
            self._stream.write(text)
        except OSError as error:
            self._failed(error)
        return len(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except OSError as error:
            self._failed(error)


def _guarded(stream: TextIO, failed: Callable[[OSError], None]) -> TextIO:
    return cast("TextIO", _Guarded(stream, failed))  # all of it that print and rich use


def _tell(error: OSError) -> None:
    """Raise a broken pipe as what no library knows; a run loses it as it loses a dead terminal.

    What else stdout does not take is told from errors of other files.
    """
    if error.errno == errno.EPIPE:
        raise ReaderLeftError(errno.EIO, "nobody reads stdout any more") from error
    raise StdoutError(error.errno, error.strerror or str(error)) from error


def _lose(stream: TextIO, error: OSError, *, reasons: tuple[int, ...] | None) -> None:
    """Let what comes later go nowhere, where nobody will read again; a full disk may empty.

    Only errors of these `reasons` are lost; None = any.
    """
    if reasons is not None and error.errno not in reasons:
        raise error
    if error.errno in _NOBODY_READS:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
