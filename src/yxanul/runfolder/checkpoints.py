"""Checkpoints that are whole and unaltered, or not taken for checkpoints at all.

A checkpoint is a folder `step-<8 digits>-a<attempt>` of safetensors, state.json and manifest.json.
It is valid when its manifest (size and sha256 of every file) verifies, whatever any other file
says. None is a pickle: torch.save, safetensors and DCP all load a flipped bit without complaint, so
the sha256 of every file is compared before anything is read. Writing them is the matter of
`yxanul.runfolder.saving`.
"""

import json
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file

from yxanul.errors import CorruptCheckpointError
from yxanul.runfolder.durable import refuse_absent_disk, seal, sha256_of

FORMAT = 1
MANIFEST_NAME = "manifest.json"
WEIGHTS_NAME = "model.safetensors"
CHECKPOINT_NAME = re.compile(r"step-([0-9]{8,18})-a([0-9]{1,18})")
_FILE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")
_FILES = {WEIGHTS_NAME, "optimizer.safetensors", "state.json"}
LARGEST_JSON_BYTES = 16 << 20
# Exact types: in JSON a count is never true, and a flag never 1.
INFO_TYPES: dict[str, tuple[type, ...]] = {
    "step": (int,),
    "attempt": (int,),
    "tokens_seen": (int,),
    "stage": (str,),
    "permanent": (bool,),
    "parent": (str, type(None)),
}
# What older manifests lack.
LATER_TYPES: dict[str, tuple[type, ...]] = {
    "config_sha256": (str, type(None)),
    "world_size": (int, type(None)),
    "code_version": (str, type(None)),
}

Tensors = Mapping[str, np.ndarray]
Read = TypeVar("Read")


@dataclass(frozen=True)
class CheckpointInfo:
    """What the manifest says about one checkpoint."""

    path: Path
    step: int
    attempt: int
    tokens_seen: int
    stage: str
    permanent: bool
    parent: str | None
    """Name of the checkpoint resumed from or written before; None for the first."""
    config_sha256: str | None = None
    """Of RUN/config.yaml as the run had written it; None, here and below: an older manifest."""
    world_size: int | None = None
    """Processes that trained it."""
    code_version: str | None = None

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.path.name


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint's content, verified and loaded."""

    info: CheckpointInfo
    model: dict[str, np.ndarray]
    optimizer: dict[str, np.ndarray]
    state: dict[str, Any]


@dataclass(frozen=True)
class Weights:
    """A checkpoint's weights alone, verified and loaded."""

    info: CheckpointInfo
    model: dict[str, np.ndarray]


def checkpoint_name(step: int, attempt: int) -> str:
    """Return the folder name of the checkpoint at `step` of `attempt`."""
    return f"step-{step:08d}-a{attempt}"


def list_checkpoints(folder: Path, *, attempt: int | None = None) -> list[Path]:
    """Return the checkpoint folders of one attempt or of all, newest last, verified or not."""
    found = []
    for path in folder.iterdir() if folder.exists() else []:
        match = CHECKPOINT_NAME.fullmatch(path.name)
        if match and (attempt is None or int(match[2]) == attempt):
            found.append((int(match[1]), int(match[2]), path))
    return [path for _, _, path in sorted(found)]


def newest_name(folder: Path, *, attempt: int) -> str | None:
    """Return the name of an attempt's newest checkpoint, verified or not; None without one."""
    newest = list_checkpoints(folder, attempt=attempt)[-1:]
    return newest[0].name if newest else None


def verify_checkpoint(path: Path, *, only: Collection[str] = ()) -> CheckpointInfo:
    """Compare every file with the manifest; the first difference is a `CorruptCheckpointError`.

    `only` names the files to compare, where the others are not read. Links are refused wherever
    they lead. Other files that the manifest does not name are never read, and so do no harm.
    """
    info, files = read_manifest(path)
    with _reading(path):
        links = sorted(entry.name for entry in path.iterdir() if entry.is_symlink())
    if links:
        raise CorruptCheckpointError(
            f"{path / links[0]} is a symbolic link; a checkpoint holds plain files only"
        )
    for name in only or files:
        verify_file(path / name, files[name])
    return info


def load_checkpoint(path: Path) -> Checkpoint:
    """Verify and read one checkpoint; anything wrong with it is a `CorruptCheckpointError`."""
    info = verify_checkpoint(path)
    model = _read_tensors(path / WEIGHTS_NAME)
    optimizer = _read_tensors(path / "optimizer.safetensors")
    return Checkpoint(info, model, optimizer, read_json(path / "state.json"))


def load_weights(path: Path) -> Weights:
    """Verify and read the weights of one checkpoint, a third of its bytes, and nothing else of it.

    Anything wrong with them or with the manifest is a `CorruptCheckpointError`.
    """
    info = verify_checkpoint(path, only={WEIGHTS_NAME})
    return Weights(info, _read_tensors(path / WEIGHTS_NAME))


def load_state(path: Path) -> dict[str, Any]:
    """Verify and read the clock of one checkpoint; its tensors are neither read nor compared.

    Anything wrong with it or with the manifest is a `CorruptCheckpointError`.
    """
    verify_checkpoint(path, only={"state.json"})
    return read_json(path / "state.json")


def newest_checkpoint(
    folder: Path, *, attempt: int
) -> tuple[Checkpoint | None, dict[Path, CorruptCheckpointError]]:
    """Return the attempt's newest checkpoint that verifies, and why each newer one does not."""
    return newest_readable(folder, attempt=attempt, read=load_checkpoint)


def newest_readable(
    folder: Path, *, attempt: int, read: Callable[[Path], Read]
) -> tuple[Read | None, dict[Path, CorruptCheckpointError]]:
    """Return what `read` makes of the attempt's newest checkpoint that it does not find corrupt.

    With it, why each newer one is.
    """
    bad: dict[Path, CorruptCheckpointError] = {}
    for path in reversed(list_checkpoints(folder, attempt=attempt)):
        try:
            return read(path), bad
        except CorruptCheckpointError as error:
            bad[path] = error
    return None, bad


def read_manifest(folder: Path) -> tuple[CheckpointInfo, dict[str, Any]]:
    """Return what the manifest says, and {file name: size and sha256}; values of any type."""
    path = folder / MANIFEST_NAME
    manifest = read_json(path)
    if type(manifest.get("format")) is not int or manifest["format"] != FORMAT:
        raise CorruptCheckpointError(f"{path} is not a manifest of format {FORMAT}")
    if manifest.get("sha256") != seal(manifest):
        raise CorruptCheckpointError(f"{path} is not what was written: its own sha256 differs")
    for key, types in (INFO_TYPES | LATER_TYPES).items():
        value, is_there = manifest.get(key), key in manifest or key in LATER_TYPES
        if not is_there or type(value) not in types or (type(value) is int and value < 0):
            raise CorruptCheckpointError(f"{path}: {key} is missing or not what it should be")
    files = manifest.get("files")
    if not isinstance(files, dict) or not files.keys() >= _FILES:
        raise CorruptCheckpointError(f"{path} does not name the checkpoint's files")
    for name in files:
        if not _FILE_NAME.fullmatch(name) or name == MANIFEST_NAME:
            raise CorruptCheckpointError(f"{path} names {name!r}, which is no file of a checkpoint")
    fields: dict[str, Any] = {key: manifest.get(key) for key in INFO_TYPES | LATER_TYPES}
    info = CheckpointInfo(path=folder, **fields)
    if checkpoint_name(info.step, info.attempt) != folder.name:
        raise CorruptCheckpointError(
            f"{folder} holds the checkpoint {checkpoint_name(info.step, info.attempt)}"
        )
    return info, files


def verify_file(path: Path, expected: Any) -> None:
    """Compare a file with what its manifest says of it; raises as `verify_checkpoint`."""
    if not isinstance(expected, dict):
        raise CorruptCheckpointError(
            f"{path.parent / MANIFEST_NAME} does not say what {path.name} should be"
        )
    if not path.is_file():
        raise CorruptCheckpointError(f"{path} is missing")
    with _reading(path):
        size = path.stat().st_size
        if size != expected.get("bytes"):
            raise CorruptCheckpointError(
                f"{path} has {size} bytes where its manifest says {expected.get('bytes')}"
            )
        if sha256_of(path) != expected.get("sha256"):
            raise CorruptCheckpointError(
                f"{path} is not what was written: its sha256 differs from the manifest's"
            )


def _read_tensors(path: Path) -> dict[str, np.ndarray]:
    try:
        tensors = load_file(path)
    except (SafetensorError, ValueError, TypeError, KeyError, AttributeError, OSError) as error:
        refuse_absent_disk(error, path)
        # numpy has no bfloat16 or float8: safetensors fails on these in several ways.
        raise CorruptCheckpointError(f"{path} holds no tensors of ours: {error}") from error
    for name, tensor in tensors.items():
        if not np.isfinite(tensor).all():
            raise CorruptCheckpointError(f"{path}: {name} holds values that are not finite")
    return tensors


def read_json(path: Path) -> dict[str, Any]:
    """Return the JSON object in a file of 16 MiB at most; else a `CorruptCheckpointError`."""
    if not path.is_file():
        raise CorruptCheckpointError(f"{path} is missing")
    with _reading(path):
        if path.stat().st_size > LARGEST_JSON_BYTES:
            raise CorruptCheckpointError(f"{path} is too large to be what was written")
        text = path.read_bytes()
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise CorruptCheckpointError(f"{path} cannot be read as JSON") from error
    if not isinstance(value, dict):
        raise CorruptCheckpointError(f"{path} is not a JSON object")
    return value


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """A disk that cannot read a checkpoint back (EIO) has not kept it; one that is away may have.

    It raises a `CorruptCheckpointError`, or a `BrokenDiskError`.
    """
    try:
        yield
    except OSError as error:
        refuse_absent_disk(error, path)
        raise CorruptCheckpointError(f"{path} cannot be read: {error.strerror}") from error
