"""The lines of a benchmark's file, packed or not."""

from __future__ import annotations

import bz2
import gzip
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from yxanul.data.benchmarks.fields import Fields
from yxanul.data.lines import parse_line
from yxanul.data.walk import unreadable
from yxanul.errors import CorruptDataError

_OPENERS: dict[str, Callable[..., Any]] = {".gz": gzip.open, ".bz2": bz2.open}


def read_lines(path: Path) -> Iterator[tuple[str, bytes]]:
    """Yield each line as (place, bytes without the line's end), blank ones too.

    A place is "FILE, line N", from 1. Raises CorruptDataError for a damaged archive,
    and for a file that may not be read.
    """
    number = 0
    try:
        with _OPENERS.get(path.suffix, open)(path, "rb") as file:
            for number, line in enumerate(file, start=1):
                yield f"{path}, line {number}", line.rstrip(b"\r\n")
    except (EOFError, OSError, zlib.error) as error:
        # Those of a damaged archive have no number of the system's.
        if isinstance(error, OSError) and error.errno is not None:
            raise unreadable(path, error) from error
        raise CorruptDataError(
            f"{path} cannot be unpacked after line {number} ({error}): bring the original back."
        ) from error


def read_rows(path: Path) -> Iterator[Fields]:
    """Yield the objects of a file of JSON lines; a line that is none is a CorruptDataError."""
    for place, line in read_lines(path):
        if line.strip():
            yield Fields(parse_line(line, place), place)
