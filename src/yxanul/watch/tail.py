"""A growing file of rows, of which each look reads only what is new."""

import os
from pathlib import Path

from yxanul.runfolder.rows import Row, parse_rows


class RowTail:
    """The rows of one file; one that is written anew, or has shrunk, is read from its beginning."""

    def __init__(self, path: Path) -> None:
        self.rows: list[Row] = []
        self._path = path
        self._at = (0, 0)
        """The file (its inode), and the bytes of it that are read."""
        self._lines = 0

    def read(self) -> list[Row]:
        """Read on, and return the rows that are new; `rows` are all.

        After a file was written anew that is all of it, and `rows` begin anew as well. A damaged
        row is a `CorruptDataError`.
        """
        try:
            with self._path.open("rb") as file:
                inode, begin = self._at
                about = os.fstat(file.fileno())
                if about.st_ino != inode or about.st_size < begin:
                    begin, self._lines, self.rows = 0, 0, []
                file.seek(begin)
                whole, _, _ = file.read().rpartition(b"\n")
        except FileNotFoundError:
            return []
        text = whole.decode("utf-8", errors="replace")
        # A half-written last line is read when it is whole.
        self._at = (about.st_ino, begin + (len(whole) + 1 if whole else 0))
        new = parse_rows(text, path=self._path, first=self._lines + 1) if whole else []
        self._lines += len(new)
        self.rows += new
        return new
