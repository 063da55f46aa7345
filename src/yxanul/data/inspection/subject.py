"""Tell what a folder is: prepared data, a run, or one of its checkpoints.

The one idea: each kind is known by what lies in it, and one that should hold data but does not is
an error where somebody asked for the data. Finding it reads nothing inside but a
run's data.json; rows and checkpoints are compared on request.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from yxanul.data.files import is_checkpoint
from yxanul.data.prepared.manifest import MANIFEST_NAME
from yxanul.errors import CorruptDataError, UsageError
from yxanul.runfolder.checkpoints import list_checkpoints, verify_checkpoint
from yxanul.runfolder.layout import RunFolder
from yxanul.runfolder.sums import refuse_changes


@dataclass(frozen=True, slots=True)
class Subject:
    """What a folder leads to.

    `prepared` is the folder of its prepared data, `absent` is where a run has none (yet); for a
    checkpoint both are None.
    """

    prepared: Path | None
    absent: Path | None
    checkpoints: tuple[Path, ...]


def find_subject(folder: Path, *, verify: bool, asked: Sequence[str]) -> Subject:
    """Return what `folder` is; to `verify` or answer what is `asked`, a run must have its data.

    `asked` names the options that ask for data. Raises `UsageError` for any other folder and where
    a checkpoint is asked for data, `CorruptDataError` if the data of a run is needed, or named by
    its data.json, and not there.
    """
    if not folder.is_dir():
        raise UsageError(f"{folder} is not a folder; name a prepared folder or a run folder")
    if is_checkpoint(folder):
        if asked:
            raise UsageError(
                f"{folder} is a checkpoint and holds no tokens; for {asked[0]} name a prepared "
                "folder or a run folder"
            )
        return Subject(None, None, (folder.resolve(),))
    if (folder / MANIFEST_NAME).is_file():
        return Subject(folder, None, ())
    run = RunFolder(folder)
    if not run.checkpoints.is_dir():
        raise UsageError(
            f"{folder} holds neither a manifest.json nor checkpoints; "
            "name a prepared folder or a run folder"
        )
    data, checkpoints = run.prepared_data(), tuple(list_checkpoints(run.checkpoints))
    if (data / MANIFEST_NAME).is_file():
        return Subject(data, None, checkpoints)
    if run.data_pointer.exists():
        raise CorruptDataError(
            f"{run.data_pointer} names {data}, where there is no prepared data; put the folder "
            "back or prepare it again"
        )
    if verify or asked:
        raise CorruptDataError(
            f"there is no prepared data at {data}; put it back or start the run again"
        )
    return Subject(None, data, checkpoints)


def verify_rows(folder: Path) -> None:
    """Hold rows, scores and settings of a run against what its last end left.

    Raises `CorruptDataError` for the first that differs; a folder that is no run has none.
    """
    refuse_changes(RunFolder(folder))


def describe_checkpoints(subject: Subject, *, verify: bool) -> list[dict[str, str]]:
    """Return {name, state} of each checkpoint; `verify` compares every byte of all of them.

    Raises `CorruptCheckpointError` for the first damaged one.
    """
    described = []
    for path in subject.checkpoints:
        state = "not read (--verify compares its bytes)"
        if verify:
            info = verify_checkpoint(path)
            state = f"verified, {info.tokens_seen:,} tokens, {info.stage}"
        described.append({"name": path.name, "state": state})
    return described
