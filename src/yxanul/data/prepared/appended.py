"""A file that grows at its end, is hashed as it grows, and gets its name when it is whole."""

from __future__ import annotations

import os
from pathlib import Path
from types import TracebackType

from yxanul.data.files import TEMPORARY, close_unfinished, reopen
from yxanul.data.prepared.manifest import IndexFile
from yxanul.runfolder.durable import publish, writing

_PIECES = 1024


class AppendedFile:
    """Writes `root/path`; use it in a `with` block, and call `finish`.

    With `size`, the bytes that `sync` returned, it writes on from there.
    """

    def __init__(self, root: Path, path: str, *, size: int = 0) -> None:
        self._path = path
        self._final = root / path
        self._temporary = self._final.with_name(self._final.name + TEMPORARY)
        with writing(self._final):
            self._final.parent.mkdir(parents=True, exist_ok=True)
        self._handle, self._digest = reopen(self._final, size)
        self._bytes = size
        self._waiting: list[bytes] = []

    def __enter__(self) -> AppendedFile:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        close_unfinished(self._handle, error)

    def append(self, content: bytes) -> None:
        """Add bytes, which are written a thousand pieces at a time."""
        self._waiting.append(content)
        if len(self._waiting) >= _PIECES:
            self._write()

    def sync(self) -> int:
        """Put everything on the disk; return the file's bytes."""
        self._write()
        with writing(self._final):
            self._handle.flush()
            os.fsync(self._handle.fileno())
        return self._bytes

    def _write(self) -> None:
        content = b"".join(self._waiting)
        self._waiting.clear()
        with writing(self._final):
            self._handle.write(content)
        self._digest.update(content)
        self._bytes += len(content)

    def finish(self) -> IndexFile:
        """Sync and rename the file, and return its record."""
        size = self.sync()
        with writing(self._final):
            self._handle.close()
            publish(self._temporary, self._final)
        return IndexFile(self._path, self._digest.hexdigest(), size)
