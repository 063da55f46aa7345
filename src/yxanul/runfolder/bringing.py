"""The way back from a run's mirror: every byte of a checkpoint is compared with its manifest.

The one idea: the lineage comes last. A folder without one holds no run, so whoever is killed on the
way begins the way again.
"""

import shutil
from collections.abc import Sequence
from pathlib import Path

from yxanul.errors import CorruptCheckpointError, CorruptDataError
from yxanul.failpoints import failpoint
from yxanul.runfolder.checkpoints import (
    LARGEST_JSON_BYTES,
    MANIFEST_NAME,
    read_manifest,
    verify_checkpoint,
)
from yxanul.runfolder.durable import publish, sync_folder, writing
from yxanul.runfolder.layout import RunFolder, is_run_file
from yxanul.runfolder.lineage import BROUGHT, current_attempt
from yxanul.runfolder.lost import settle_losses
from yxanul.runfolder.mirror import LEFT_OUT, Say, published
from yxanul.runfolder.saving import set_aside
from yxanul.runfolder.storage import Place, reaching

_LARGEST_ROWS_BYTES = 4 << 30


def bring_back(address: str, folder: RunFolder, *, say: Say) -> bool:
    """Copy a run that lies at an address to a folder that holds none; tell whether there was one.

    The newest checkpoint whose bytes are those of its manifest is taken. Raises
    `CorruptDataError` if there are checkpoints and none is, and what `reaching` raises.
    """
    with reaching(address):
        place = Place(address)
        names = list(published(place))
        if not names:
            return False
        say(f"{address} holds a run, which is brought to {folder.root}")
        taken = (n for n in names if _is_brought(place, n, folder=folder, say=say))
        here = next(taken, None)
        if here is None:
            raise CorruptDataError(
                f"{address}: none of its {len(names)} checkpoints is what was written; begin anew "
                "with another address"
            )
        lineage = [folder.lineage.name]
        there = [inside for inside, _ in _rows_there(place)]
        for inside in sorted(there, key=lambda inside: inside == lineage):
            failpoint("mirror.bringing")
            beside = _fetch_rows(place, "/".join(inside), target=folder.root.joinpath(*inside))
            if inside == lineage:
                # The rows may name checkpoints that were lost on their way here.
                settle_losses(folder, BROUGHT, lineage=beside, here=here)
            _take_over(beside, folder.root.joinpath(*inside))
    return True


def bring_newest(address: str, folder: RunFolder, *, say: Say) -> bool:
    """Copy the newest checkpoint of a run that has lost its own; tell whether there was one.

    It is of the attempt that was begun last, and what was written. Raises what `reaching` raises.
    """
    attempt = current_attempt(folder.lineage)
    with reaching(address):
        place = Place(address)
        names = published(place, attempt=attempt)
        return any(_is_brought(place, name, folder=folder, say=say) for name in names)


def bring_checkpoint(address: str, folder: RunFolder, *, name: str, say: Say) -> bool:
    """Copy one checkpoint from an address unless it is here and whole; tell whether it is there.

    A damaged one here is set aside. Raises `CorruptCheckpointError` if that at the address is not
    what was written either, and what `reaching` raises.
    """
    bad: CorruptCheckpointError | None = None
    if (folder.checkpoints / name).exists():
        try:
            verify_checkpoint(folder.checkpoints / name)
        except CorruptCheckpointError as error:
            bad = error
        else:
            return True
    with reaching(address):
        place = Place(address)
        if name not in published(place):
            return False
        _bring_checkpoint(place, name, folder=folder, bad=bad)
    say(f"{name} is brought back from {address}, every byte compared")
    return True


def bring_rows(address: str, targets: Sequence[Path]) -> list[Path]:
    """Copy files of the run's own folder from an address over `targets`; return those it has.

    Rows that are as long as those here are not read again. Raises what `reaching` raises.
    """
    with reaching(address):
        place = Place(address)
        sizes = {target: place.size(f"run/{target.name}") for target in targets}
        found = [target for target in targets if sizes[target] is not None]
        for target in found:
            is_rows = target.suffix == ".jsonl" and target.is_file()
            if not (is_rows and target.stat().st_size == sizes[target]):
                _bring_rows(place, target.name, target=target)
    return found


def bring_scores(address: str, folder: RunFolder) -> None:
    """Copy the held-out scores that `folder` lacks or has in another size, as one taken again is.

    Raises what `reaching` raises.
    """
    with reaching(address):
        place = Place(address)
        for inside, size in _rows_there(place):
            target = folder.root.joinpath(*inside)
            is_score = target.parent == folder.scores
            if is_score and not (target.is_file() and target.stat().st_size == size):
                _bring_rows(place, "/".join(inside), target=target)


def _rows_there(place: Place) -> list[tuple[list[str], int]]:
    """Return the paths, in parts, and the sizes of the run's files that are at an address."""
    parts = ((path.split("/"), size) for path, size in place.sizes().items())
    return [(inside, size) for (top, *inside), size in parts if top == "run" and _is_rows(inside)]


def _is_rows(inside: list[str]) -> bool:
    """Tell whether these parts of a path lead to a file that `publish` copies, and nowhere else."""
    is_path = bool(inside) and all(inside)  # ".." begins with a dot, as no name of ours does
    return is_path and inside[0] not in LEFT_OUT and is_run_file(inside)


def _bring_rows(place: Place, path: str, *, target: Path) -> None:
    _take_over(_fetch_rows(place, path, target=target), target)


def _fetch_rows(place: Place, path: str, *, target: Path) -> Path:
    """Copy a file from there to one beside its `target`; return that."""
    beside = target.with_name(f".{target.name}.tmp")
    place.get(f"run/{path}", beside, largest=_LARGEST_ROWS_BYTES)
    return beside


def _take_over(beside: Path, target: Path) -> None:
    with writing(target):
        publish(beside, target)


def _is_brought(place: Place, name: str, *, folder: RunFolder, say: Say) -> bool:
    """Bring a checkpoint unless it is here; tell whether it is what was written."""
    try:
        if (folder.checkpoints / name).exists():
            verify_checkpoint(folder.checkpoints / name)
        else:
            _bring_checkpoint(place, name, folder=folder)
    except CorruptCheckpointError as error:
        say(f"not used: {error}; the one before is brought")
        return False
    say(f"{name} is here, every byte compared")
    return True


def _bring_checkpoint(
    place: Place, name: str, *, folder: RunFolder, bad: CorruptCheckpointError | None = None
) -> None:
    """Bring a checkpoint, in place of one that is `bad`."""
    beside = folder.checkpoints / f".tmp-mirror-{name}"
    shutil.rmtree(beside, ignore_errors=True)
    target = beside / name  # verified under its own name
    source = f"checkpoints/{name}"
    place.get(f"{source}/{MANIFEST_NAME}", target / MANIFEST_NAME, largest=LARGEST_JSON_BYTES)
    for file, about in read_manifest(target)[1].items():
        size = about.get("bytes") if isinstance(about, dict) else None
        if not isinstance(size, int) or not place.exists(f"{source}/{file}"):
            raise CorruptCheckpointError(f"{name}/{file} is missing at the address")
        place.get(f"{source}/{file}", target / file, largest=size)
    verify_checkpoint(target)
    if bad is not None:
        set_aside(folder.checkpoints / name, bad, lineage=folder.lineage)
    with writing(folder.checkpoints):
        sync_folder(target)
        target.rename(folder.checkpoints / name)
        beside.rmdir()
        sync_folder(folder.checkpoints)
