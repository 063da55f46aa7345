"""Prepared data that a folder has from an address, and whether it is what is asked for.

The one idea: what a folder holds is that of an address if the tokens are, however they came there.
So the address is asked, but for a run that was begun with it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from yxanul.config.schema import StageConfig
from yxanul.data.places.folders import stage_parts
from yxanul.data.places.remote import download, holds_prepared, remote_manifest
from yxanul.data.prepared.manifest import SPLITS, Manifest, require_stages
from yxanul.data.prepared.settings import refuse_other_settings
from yxanul.data.prepared.verify import check_files
from yxanul.errors import CorruptShardError, UsageError

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
    return download(address, out, say=say)


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


def refuse_other_origin(
    address: str, stages: Sequence[StageConfig], *, held: Manifest, out: Path
) -> None:
    """Raise `UsageError` where `out` holds other tokens of `stages` than lie at an address.

    Stages that it lacks are passed over. What storage refuses is raised.
    """
    theirs = remote_manifest(address)
    for stage in (stage for stage in stages if stage.name in held.stages):
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


def _tokens(stage: StageConfig, manifest: Manifest) -> dict[str, list[str]]:
    return {
        name: [record.split(split).sha256 for split in SPLITS]
        for name, record in manifest.sources_of(stage.name).items()
    }
