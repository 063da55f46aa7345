"""What a run refuses before its data is prepared, which may take hours."""

from collections.abc import Sequence

from yxanul.config.schema import RunConfig, StageConfig
from yxanul.curriculum.stages import refuse_unequal_shares
from yxanul.runfolder.layout import RunFolder
from yxanul.runfolder.verdicts import CLOSING, read_verdicts
from yxanul.train.machine import Machine
from yxanul.train.request import RunRequest


def refuse_early(
    config: RunConfig, folder: RunFolder, *, request: RunRequest, machine: Machine
) -> None:
    """Raise a `UsageError` for settings that this machine and these processes cannot train with."""
    stages = _still_trained(config, folder, request=request)
    refuse_unequal_shares(stages, machine.processes.world_size)


def _still_trained(
    config: RunConfig, folder: RunFolder, *, request: RunRequest
) -> Sequence[StageConfig]:
    """Return the stages that this command trains: other machines may have done those before."""
    verdicts = read_verdicts(folder)
    closed = {name for name, row in verdicts.items() if row["verdict"] in CLOSING}
    asked = (s for s in config.stages if request.stage in (None, s.name))
    return [stage for stage in asked if stage.name not in closed]
