"""Prepared data that a folder has from an address, and whether it is what is asked for.

The one idea: OUT/address.json says from which address the manifest beside it came, so that what is
whole is used also when that is out of reach. Any other address is asked what it holds.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from yxanul.config.schema import StageConfig
from yxanul.data.inspection.verify import check_files
from yxanul.data.places.folders import stage_parts
from yxanul.data.places.remote import download, holds_prepared, remote_manifest
from yxanul.data.prepared.manifest import SPLITS, Manifest, require_stages
from yxanul.data.prepared.settings import refuse_other_settings, sources_of
from yxanul.errors import CorruptShardError, UsageError
from yxanul.runfolder.durable import write_json

RECORD_NAME = "address.json"

Say = Callable[[str], None]


def bring(address: str, stages: Sequence[StageConfig], *, out: Path, say: Say) -> Manifest | None:
    """Bring the prepared folder at an address to `out`; None = there is none.

    What is not as `stages` ask for is a `UsageError` before a byte of it is brought. Raises what
    `download` does.
    """
    theirs = remote_manifest(address)
    if theirs is None:
        return None
    require_stages(theirs, [stage.name for stage in stages])
    refuse_other_settings(theirs, stages, place=address)
    held = download(address, out, say=say)
    keep_address(address, out, held=held)
    return held


def whole(held: Manifest, out: Path, *, address: str, say: Say) -> Manifest:
    """Return the manifest of `out`, whose missing files are brought from `address` once more.

    What is whole is used as it is, also when the address is out of reach.
    """
    try:
        check_files(held, out)
    except CorruptShardError as error:
        if not holds_prepared(address):
            raise  # texts that a cluster treated
        say(f"{str(error).partition(';')[0]}; what differs is brought from {address}")
        held = download(address, out, say=say)
        check_files(held, out)
    return held


def keep_address(address: str, out: Path, *, held: Manifest) -> None:
    """Write down that what `out` holds came from an address."""
    write_json(out / RECORD_NAME, _record(address, held))


def refuse_other_origin(
    address: str, stages: Sequence[StageConfig], *, held: Manifest, out: Path
) -> None:
    """Raise `UsageError` where `out` holds other tokens of `stages` than lie at an address.

    The address that they came from is not asked; of another one what storage refuses is raised.
    """
    with suppress(FileNotFoundError, ValueError):  # without the record, the address tells
        if json.loads((out / RECORD_NAME).read_bytes()) == _record(address, held):
            return
    theirs = remote_manifest(address)
    for stage in stages:
        if theirs is not None:
            is_same = _tokens(stage, held) == _tokens(stage, theirs)
        else:
            parts, joined = stage_parts(stage), held.sources.get(stage.name)
            is_same = parts is not None and joined is not None and joined.version == parts.version
        if not is_same:
            raise UsageError(
                f"{out} holds another {stage.name} than {address} does: to use what is prepared "
                f"give --data {out}, to use what lies there choose another --out."
            )


def _record(address: str, held: Manifest) -> dict[str, str]:
    return {"address": address.rstrip("/"), "manifest": held.sha256}


def _tokens(stage: StageConfig, manifest: Manifest) -> dict[str, list[str]]:
    return {
        name: [record.split(split).sha256 for split in SPLITS]
        for name, record in sources_of(stage, manifest).items()
    }
