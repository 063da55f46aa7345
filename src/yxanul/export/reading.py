"""Weights of a Hugging Face folder of our architecture, for a run that begins with them.

Files are safetensors, whole or in shards; links and names that lead out of the folder are refused,
but for those of the hub's cache, and nothing else is read than config.json and those.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from yxanul.config.schema import ModelConfig
from yxanul.config.tokens import END_OF_TEXT
from yxanul.errors import CorruptDataError, UsageError
from yxanul.export.gemma import TENSOR_PREFIX, shape_of
from yxanul.runfolder.checkpoints import read_json
from yxanul.runfolder.durable import refuse_absent_disk

_HEAD = "lm_head.weight"
_EMBEDDING = "embed_tokens.weight"


@dataclass(frozen=True)
class FolderWeights:
    """What a Hugging Face folder holds."""

    config: ModelConfig
    tensors: dict[str, Tensor]
    """fp32, by our names."""


def is_hugging_face_folder(place: Path) -> bool:
    """Tell whether a folder is one of `save_pretrained`, ours or another's."""
    return (place / "config.json").is_file()


def absent_files(place: Path) -> list[str]:
    """Return which of config.json and the files of its weights a folder lacks, as half a download.

    An index that does not name files of the folder is a `CorruptDataError`.
    """
    return [path.name for path in (place / "config.json", *_files(place)) if not path.is_file()]


def is_own_file(path: Path) -> bool:
    """Tell whether a path is a file of its folder: a plain one, or a link as the hub's cache has.

    There snapshots/COMMIT/NAME leads to blobs/HASH beside snapshots.
    """
    if not path.is_symlink():
        return path.is_file()
    snapshots = path.parent.resolve().parent
    blobs = (snapshots.parent / "blobs").resolve()
    is_below = snapshots.name == "snapshots" and path.is_file()  # no loop, which has no end to find
    return is_below and path.resolve().parent == blobs


def read_shape(folder: Path) -> ModelConfig:
    """Read the shape that config.json tells; raises what `read_folder` does."""
    path = folder / "config.json"
    _refuse_links(path)
    return shape_of(read_json(path), label=str(path))


def read_folder(folder: Path) -> FolderWeights:
    """Read weights and shape of a folder.

    Another architecture is a `UsageError`, a file that is damaged, missing or a link a
    `CorruptDataError`, a disk that is away a `BrokenDiskError`.
    """
    config = read_shape(folder)
    found: dict[str, Tensor] = {}
    for path in _files(folder):
        _refuse_links(path)
        try:
            with path.open("rb"):  # what may not be read safetensors tells as absent
                found |= load_file(path)
        except (SafetensorError, OSError) as error:
            refuse_absent_disk(error, path)
            if isinstance(error, PermissionError):
                raise
            raise CorruptDataError(f"{path} cannot be read as safetensors: {error}") from error
    tensors = {
        name.removeprefix(TENSOR_PREFIX): tensor.float()
        for name, tensor in found.items()
        if name != _HEAD
    }
    head, embedding = found.get(_HEAD), tensors.get(_EMBEDDING)
    if head is not None and (embedding is None or not torch.equal(head.float(), embedding)):
        raise UsageError(f"{folder} has a head of its own, and this model's is its embedding")
    for name, tensor in tensors.items():
        if not tensor.isfinite().all():
            raise CorruptDataError(f"{folder}: {name} holds values that are not finite")
    return FolderWeights(config, tensors)


def accept_folder(folder: Path) -> None:
    """Refuse a folder of another architecture or tokenizer, as its config.json tells.

    Raises what `read_folder` does, and a `UsageError` where texts end with another token than
    GPT-2's.
    """
    read_shape(folder)
    path = folder / "config.json"
    end = read_json(path).get("eos_token_id")
    if end != END_OF_TEXT:
        raise UsageError(
            f"{path}: eos_token_id is {end!r}, and that of GPT-2's tokenizer, the only one here, "
            f"is {END_OF_TEXT}: the ids of this model mean other words"
        )


def _files(folder: Path) -> list[Path]:
    index = folder / "model.safetensors.index.json"
    if not index.is_file():
        return [folder / "model.safetensors"]
    _refuse_links(index)
    shards = read_json(index).get("weight_map")
    names = list(shards.values()) if isinstance(shards, dict) else []
    if not names or any(not isinstance(n, str) or Path(n).name != n for n in names):
        raise CorruptDataError(f"{index} does not name files of its folder")
    return [folder / name for name in sorted(set(names))]


def _refuse_links(path: Path) -> None:
    try:
        is_plain = is_own_file(path)
    except OSError as error:
        refuse_absent_disk(error, path)
        if isinstance(error, PermissionError):
            raise
        # A name that no file can have.
        raise CorruptDataError(f"{path} cannot be read: {error.strerror}") from error
    if not is_plain:
        raise CorruptDataError(f"{path} is missing, or a link; weights are plain files here")
