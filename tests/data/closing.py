"""A folder that may not be looked into, also for root, whom no right stops."""

import errno
import os
from pathlib import Path
from typing import Any

import pytest


def close(folder: Path, monkeypatch: pytest.MonkeyPatch, *, is_stale: bool = False) -> None:
    """Let the system refuse what lies in a folder, and its list of names, as after chmod 000.

    `is_stale`: nor can the folder itself be looked at, as where a server has lost it.
    """

    def closed(name: str, *, itself: bool) -> None:
        whole = getattr(os, name)

        def refuse(place: Any, *more: Any, **options: Any) -> Any:
            path = (
                Path(os.fsdecode(place)) if isinstance(place, (str, bytes, os.PathLike)) else None
            )
            if path is not None and (folder in path.parents or (itself and path == folder)):
                number = errno.ESTALE if is_stale else errno.EACCES
                raise OSError(number, os.strerror(number), str(path))
            return whole(place, *more, **options)

        monkeypatch.setattr(os, name, refuse)

    closed("stat", itself=is_stale)
    closed("scandir", itself=True)
    closed("listdir", itself=True)
