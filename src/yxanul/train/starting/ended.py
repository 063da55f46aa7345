"""Whether what is asked for has ended: all of it has passed, or a gate has said stop.

The one idea: then nothing is trained, and no data needs to be prepared for it. RUN/exit.json tells
so and, where another machine has taken that one's place, the verdicts, if the weights that they
were given on are here.
"""

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from yxanul.config.schema import RunConfig
from yxanul.errors import CorruptCheckpointError, GateStopError
from yxanul.runfolder.checkpoints import list_checkpoints, load_state, verify_checkpoint
from yxanul.runfolder.exits import read_exit
from yxanul.runfolder.layout import RunFolder
from yxanul.runfolder.lineage import attempt_parent, current_attempt
from yxanul.runfolder.rows import Row
from yxanul.runfolder.verdicts import STOP, read_checks, settled_stages
from yxanul.train.starting.request import RunOutcome, RunRequest, StageOutcome

_KEYS = ("steps", "tokens_seen", "tokens_per_s", "mfu", "training_s", "evaluation_s")


def finished_outcome(
    config: RunConfig, folder: RunFolder, *, request: RunRequest
) -> RunOutcome | None:
    """Return what the run reached by RUN/exit.json, if all that is asked for has passed."""
    if (figures := _recorded(folder)) is None:
        return None
    rows = _verdicts(config, folder, request=request)
    # A command for an earlier stage may have written it where the weights of a later one are gone.
    if not rows or rows[-1]["verdict"] == STOP or figures["steps"] < _last_step(rows):
        return None
    return _outcome(folder, rows, figures=figures)


def ended_outcome(
    config: RunConfig, folder: RunFolder, *, request: RunRequest
) -> RunOutcome | None:
    """Return what was reached of what is asked for, None: something is left to train.

    Its last stage may have been stopped by its gate.
    """
    if (finished := finished_outcome(config, folder, request=request)) is not None:
        return finished
    rows = _verdicts(config, folder, request=request)
    if not rows:
        return None
    for path in reversed(own_checkpoints(folder)):
        with suppress(CorruptCheckpointError):  # told, and set aside, where it is to be loaded
            verify_checkpoint(path)
            position = load_state(path)["position"]
            if position["step"] < _last_step(rows):
                return None  # what came after it is trained, and judged, again
            figures = {"steps": position["step"], "tokens_seen": position["tokens_seen"]}
            return _outcome(folder, rows, figures=figures)
    return None


def own_checkpoints(folder: RunFolder) -> list[Path]:
    """Return the run's checkpoints that it may go on from, newest last, verified or not."""
    attempt, parent = current_attempt(folder.lineage), attempt_parent(folder.lineage)
    paths = list_checkpoints(folder.checkpoints, attempt=attempt)
    if parent is not None and Path(parent).name == parent:  # else of another run
        paths.insert(0, folder.checkpoints / parent)
    return paths


def gate_stop(stage: str, why: str, *, folder: RunFolder, mirror: str | None) -> GateStopError:
    """Return the error that a gate's stop is."""
    root = folder.root
    kept = root if mirror is None else f"{root} (its mirror is {mirror})"
    return GateStopError(
        f"the gate of {stage} says stop: {why}. Everything is kept in {kept}; "
        "change the recipe and use another --out, or decide otherwise with yxanul gate "
        f'{root} --stage {stage} --override pass --reason "..." and start again'
    )


def _verdicts(config: RunConfig, folder: RunFolder, *, request: RunRequest) -> list[Row]:
    """Return the verdicts of all stages that are asked for, or up to one that is `stop`.

    None of them if one is left to train.
    """
    if request.names_checkpoint:
        return []
    told, found = settled_stages(folder), list[Row]()
    for stage in config.stages:
        if request.stage not in (None, stage.name):
            continue
        if stage.name not in told:
            return []
        found.append(told[stage.name])
        if found[-1]["verdict"] == STOP:
            break
    return found


def _last_step(rows: list[Row]) -> int:
    return max(int(row["step"]) for row in rows)


def _outcome(folder: RunFolder, rows: list[Row], *, figures: Mapping[str, Any]) -> RunOutcome:
    stages = [StageOutcome.from_row(row, checks=read_checks(folder, row)) for row in rows]
    return RunOutcome(folder.root, **figures, stages=stages, already_complete=True)


def _recorded(folder: RunFolder) -> dict[str, Any] | None:
    """Return the figures of a run that ended with 0; None when exit.json does not say so.

    exit.json decides nothing: a damaged one costs a look at the checkpoints.
    """
    record = read_exit(folder)
    if record is None or record.code != 0:
        return None
    try:
        figures = {key: record.outcome[key] for key in _KEYS}
    except (TypeError, KeyError):
        return None
    return figures if isinstance(figures["steps"], int) else None
