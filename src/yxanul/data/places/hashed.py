"""When a folder of texts was last read for its hash, and found to be what was prepared from it.

The one idea: .hashed.json in the prepared folder is our own knowledge, and no part of the data: it
is neither sent to an address nor named by the manifest, and without it a folder is hashed once.
"""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path

from yxanul.errors import BrokenDiskError, DiskError
from yxanul.runfolder.durable import write_atomic

HASHED_NAME = ".hashed.json"


def hashed_at(out: Path, version: str, *, folder: Path) -> int:
    """Return the second (since 1970) since when `folder` was known to be `version`; 0 = never."""
    match _known(out).get(version):
        case [*place, int(second)] if place == _place(folder):
            return second
    return 0


def keep_hashed(out: Path, version: str, *, folder: Path, second: int) -> None:
    """Keep that `folder` was `version` in a reading that began at `second`.

    Where nothing can be written, as on a disk that is read only, the next start hashes again.
    """
    with suppress(OSError, DiskError, BrokenDiskError):
        known = {**_known(out), version: [*_place(folder), second]}
        write_atomic(out / HASHED_NAME, json.dumps(known), is_shared=True)


def _place(folder: Path) -> list[int]:
    """Tell a folder from another one, also one of the same name on another machine."""
    state = folder.stat()
    return [state.st_dev, state.st_ino]


def _known(out: Path) -> dict[str, object]:
    try:
        value = json.loads((out / HASHED_NAME).read_bytes())
    except (OSError, ValueError, RecursionError):
        value = None  # as if it were not there: the texts are hashed
    return value if isinstance(value, dict) else {}
