"""The weights that a path leads to: a checkpoint's, or those where a run stands now.

Another process may be training in the run folder: nothing is locked or changed, and checkpoints
that are deleted between listing and reading are looked for again.
"""

from dataclasses import dataclass
from pathlib import Path

from yxanul.errors import CorruptCheckpointError, UsageError
from yxanul.runfolder.checkpoints import (
    CHECKPOINT_NAME,
    MANIFEST_NAME,
    Weights,
    load_weights,
    newest_readable,
)
from yxanul.runfolder.layout import RunFolder
from yxanul.runfolder.lineage import attempt_parent, current_attempt

_TRIES = 3

Refused = dict[Path, CorruptCheckpointError]


@dataclass(frozen=True)
class FoundWeights:
    """Verified weights, and the run that they belong to."""

    weights: Weights
    run: RunFolder
    """Two folders above the checkpoint; it need not be there any more."""
    refused: Refused
    """Newer checkpoints of the run that do not verify, and why."""


def find_weights(place: Path) -> FoundWeights:
    """Return the weights of a checkpoint, or of the newest one of a run that verifies.

    Of a run, only the current attempt counts, and where that one has none yet, the checkpoint that
    it goes on from. Anything else than the two is a `UsageError`, damage a
    `CorruptCheckpointError`.
    """
    if _is_checkpoint(place):
        path = place.resolve()
        return FoundWeights(load_weights(path), RunFolder(path.parents[1]), {})
    run = RunFolder(place)
    if not run.checkpoints.is_dir():
        raise UsageError(
            f"{place} is neither a run folder nor one of its checkpoints; name a folder such as "
            "runs/NAME or runs/NAME/checkpoints/step-00001000-a0"
        )
    weights, refused = _newest(run)
    if weights is not None:
        return FoundWeights(weights, run, refused)
    if refused:
        reasons = "; ".join(str(error) for error in refused.values())
        raise CorruptCheckpointError(
            f"no checkpoint in {run.checkpoints} can be used: {reasons}; bring a good copy back"
        )
    raise UsageError(
        f"{place} has no checkpoint; a run writes its first one after checkpoint.every_s, or when "
        "it is stopped"
    )


def _is_checkpoint(place: Path) -> bool:
    """By its name, or by what lies in it; weights without a manifest are not ours."""
    if not place.is_dir():
        return False
    if CHECKPOINT_NAME.fullmatch(place.resolve().name):
        return True
    return (place / MANIFEST_NAME).is_file() and (place / "model.safetensors").is_file()


def _newest(run: RunFolder) -> tuple[Weights | None, Refused]:
    for trial in range(_TRIES):
        attempt = current_attempt(run.lineage)
        weights, refused = newest_readable(run.checkpoints, attempt=attempt, read=load_weights)
        parent = attempt_parent(run.lineage)
        has_none = weights is None and not refused
        if has_none and trial > 0 and attempt > 0 and parent is not None:
            path = run.checkpoints / parent
            if path.parent != run.checkpoints and not (path / MANIFEST_NAME).is_file():
                return None, {}  # other weights than a checkpoint's: it begins with --init_from's
            return load_weights(path), {}
        # A run deletes its older checkpoints while it writes new ones; a list that is made
        # meanwhile may have neither.
        if not has_none and all(path.exists() for path in refused):
            break
    return weights, {path: error for path, error in refused.items() if path.exists()}
