"""What is done of a source that is still being written, so that a killed `prepare` can go on.

The one idea: OUT/<source>/unfinished.json says how long every file was at one moment, what was
counted, and where in the source that was. Whatever the files hold beyond it is cut off, and reading
goes on there, so the result has the same bytes as an unbroken run. Only sources with a bookmark
have this file, and it goes when the manifest is written.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from yxanul.data.bookmark import Mark
from yxanul.data.prepared.manifest import (
    SPLITS,
    ShardFile,
    SourceRecord,
    parse_shard,
    parse_source,
    shard_path,
)
from yxanul.data.strict import Fields, Sha256, names, parse_json
from yxanul.errors import CorruptShardError
from yxanul.runfolder.durable import refuse_failing_disk, write_atomic

UNFINISHED_NAME = "unfinished.json"
_LARGEST_BYTES = 64 << 20


@dataclass(frozen=True, slots=True)
class SideState:
    """One side of the split at a moment.

    `shards` are the full ones, and the tokens beyond them are in the next; `index_bytes` is the
    length of the list of documents, `signature_bytes` of their signatures (0 without any).
    """

    documents: int
    tokens: int
    bytes: int
    index_bytes: int
    signature_bytes: int
    shards: tuple[ShardFile, ...]


@dataclass(frozen=True, slots=True)
class Unfinished:
    """A source at a moment.

    `settings` and `version` say what it was begun with, `identity` covers all that its bytes depend
    on. `finished` is the record of a source that is written to its end; else `mark`, `dropped`, the
    length of the list of dropped documents, and `sides` say how far it came.
    """

    settings: Sha256
    version: str
    identity: Sha256
    finished: SourceRecord | None
    mark: Mark
    dropped: dict[str, int]
    dropped_bytes: int
    sides: dict[str, SideState]


def identity(*parts: str) -> str:
    """Return one hash of everything that the bytes of a source depend on."""
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def save_unfinished(state: Unfinished, folder: Path) -> None:
    """Write the state of the source in `folder`; its files must be synced up to it."""
    write_atomic(folder / UNFINISHED_NAME, json.dumps(dataclasses.asdict(state)) + "\n")


def load_unfinished(folder: Path) -> Unfinished | None:
    """Return the state of the source in `folder`, None = there is none.

    Raises CorruptShardError for a file that `save_unfinished` did not write, BrokenDiskError where
    its disk fails.
    """
    place = folder / UNFINISHED_NAME
    way_on = f"delete {folder} to read the source anew"
    try:
        with place.open("rb") as handle:
            content = handle.read(_LARGEST_BYTES)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        refuse_failing_disk(error, place)
        raise CorruptShardError(
            f"{place} cannot be read: {error.strerror or error}; {way_on}."
        ) from error
    value = parse_json(content, str(place), way_on=way_on)
    return _unfinished(folder.name, value, where=str(place), way_on=way_on)


def _unfinished(name: str, value: object, *, where: str, way_on: str) -> Unfinished:
    fields = Fields(value, where, keys=names(Unfinished), way_on=way_on)
    if not fields.has("finished") and fields.table("sides").keys() != set(SPLITS):
        raise fields.wrong(f"sides must be {' and '.join(SPLITS)}")
    finished = None
    if fields.has("finished"):
        finished = parse_source(name, fields.table("finished"), where=where, way_on=way_on)
    return fields.record(
        Unfinished,
        finished=finished,
        mark=fields.table("mark"),
        sides={
            split: _side(side, where, place=(name, split), way_on=way_on)
            for split, side in fields.table("sides").items()
        },
    )


def _side(value: object, where: str, *, place: tuple[str, str], way_on: str) -> SideState:
    fields = Fields(value, where, keys=names(SideState), way_on=way_on)
    shards = tuple(
        parse_shard(shard, where, path=shard_path(*place, number=number), way_on=way_on)
        for number, shard in enumerate(fields.items("shards"))
    )
    return fields.record(SideState, shards=shards)
