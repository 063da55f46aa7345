"""The average of a run's last checkpoints: often a little better than the last (arXiv 1803.05407).

Only checkpoints of the run's current attempt count, each of them verified.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from yxanul.errors import CorruptCheckpointError, UsageError
from yxanul.runfolder.checkpoints import (
    CheckpointInfo,
    list_checkpoints,
    load_weights,
    read_manifest,
)
from yxanul.runfolder.layout import RunFolder
from yxanul.runfolder.lineage import current_attempt

_LAST = re.compile(r"last:([0-9]{1,4})")
_TRIES = 3


def wanted_checkpoints(run: RunFolder, words: str) -> list[Path]:
    """Return the checkpoints that `last:N` names, oldest first; anything else is a `UsageError`."""
    match = _LAST.fullmatch(words)
    if match is None or int(match[1]) < 2:
        raise UsageError(f"--average {words}: it takes last:N, with N from 2")
    paths = list_checkpoints(run.checkpoints, attempt=current_attempt(run.lineage))
    count = int(match[1])
    if len(paths) < count:
        raise UsageError(
            f"--average {words}: {run.root} keeps {len(paths)} checkpoints of its last attempt "
            "(checkpoint.keep says how many stay)"
        )
    return paths[-count:]


def average_of(run: RunFolder, words: str) -> tuple[list[CheckpointInfo], dict[str, Tensor]]:
    """Return the checkpoints that `last:N` names, and their mean.

    A run that trains deletes its older ones while it writes new ones: where one is gone when it is
    read, they are looked for again. Raises what `wanted_checkpoints` and `average` do.
    """
    for _ in range(_TRIES):
        paths = wanted_checkpoints(run, words)
        try:
            return [read_manifest(path)[0] for path in paths], average(paths)
        except CorruptCheckpointError:
            if all(path.exists() for path in paths):
                raise
    raise UsageError(
        f"--average {words}: {run.root} deletes its checkpoints while they are read; raise its "
        "checkpoint.keep, or wait until it has ended"
    )


def average(paths: Sequence[Path]) -> dict[str, Tensor]:
    """Return the mean of the checkpoints' weights, added in fp64; damage is an error by name."""
    total: dict[str, np.ndarray] = {}
    for path in paths:
        for name, array in load_weights(path).model.items():
            found = total.setdefault(name, np.zeros(array.shape, dtype=np.float64))
            if found.shape != array.shape:
                raise UsageError(f"--average: {name} of {path.name} has another shape")
            found += array
    return {n: torch.from_numpy((t / len(paths)).astype(np.float32)) for n, t in total.items()}
