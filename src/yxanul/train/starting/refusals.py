"""What a run refuses before its data is prepared, which may take hours."""

from collections.abc import Sequence

from yxanul.config.schema import RunConfig, StageConfig
from yxanul.config.sharing import refuse_unequal_shares
from yxanul.hardware.device import DeviceKind
from yxanul.hardware.doctor import list_features, refuse_inactive
from yxanul.hardware.feature import Case
from yxanul.runfolder.layout import RunFolder
from yxanul.runfolder.verdicts import STOP, settled_stages
from yxanul.train.probing.frozen import refuse_other_stages, ruled_config
from yxanul.train.processes.agreement import (
    common_program,
    common_settings,
    device_kinds,
    refuse_disagreement,
    refuse_unlike_devices,
    refusing_together,
)
from yxanul.train.processes.machine import Machine, refuse_lost_card, refuse_other_environment
from yxanul.train.starting.request import RunRequest


def refuse_early(
    config: RunConfig,
    folder: RunFolder,
    *,
    request: RunRequest,
    machine: Machine,
    malloc: str,
    has_ended: bool,
) -> None:
    """Raise a `UsageError` for settings that this machine and these processes cannot train with.

    So for a card that torch does not use; an `InfrastructureError` tells of one that failed, or
    that the run had and this machine does not show. A strict start also for what was asked for and
    is not active, and for another machine or program than the run's last one. `malloc` is what came
    of the wish to keep freed memory. What one process refuses, all of them do: each judges its own
    device, and the main one alone is strict. So it is with processes of another program, of unlike
    settings or devices.

    What has ended trains nothing: its settings and stages alone are looked at.
    """
    # With others they would judge, and on cards try, other things than the others wait for.
    if machine.processes.world_size > 1:
        common = {"the program": common_program(), "the settings": common_settings(config)}
        refuse_disagreement(common, machine.processes)
    kinds = device_kinds(machine.processes, device=machine.device)
    with refusing_together(machine.processes, device=machine.device):
        refuse_other_stages(config, folder, is_whole=request.stage is None)
        if not has_ended:
            _refuse(config, folder, request=request, machine=machine, malloc=malloc, kinds=kinds)


def _refuse(
    config: RunConfig,
    folder: RunFolder,
    *,
    request: RunRequest,
    machine: Machine,
    malloc: str,
    kinds: Sequence[DeviceKind],
) -> None:
    refuse_lost_card(folder, device=machine.device)
    refuse_unlike_devices(config.optimization, kinds)
    stages = _still_trained(config, folder, request=request)
    refuse_unequal_shares(
        # A run that --max_steps ends may not come to a phase that cannot be shared.
        stages if request.max_steps is None else _first_phase(stages[0]),
        machine.processes.world_size,
        context=config.model.max_position_embeddings,
    )
    ruled = ruled_config(config, folder, machine=machine)
    if request.strict and machine.processes.is_main:
        refuse_other_environment(ruled, folder, machine=machine)
        # What a card will be tried for is not asked for: it would change nothing of this.
        case = Case(
            optimization=ruled.optimization,
            stages=ruled.stages,
            device=machine.device,
            world_size=machine.processes.world_size,
            malloc=malloc,
            rates={},
        )
        refuse_inactive(list_features(case))


def _first_phase(stage: StageConfig) -> Sequence[StageConfig]:
    first = stage.training.seq_len_curriculum[:1]
    training = stage.training.model_copy(update={"seq_len_curriculum": first})
    return [stage.model_copy(update={"training": training})]


def _still_trained(
    config: RunConfig, folder: RunFolder, *, request: RunRequest
) -> Sequence[StageConfig]:
    """Return the stages that this command trains: other machines may have done those before.

    Where all have their verdicts, the weights of the last one are not here: it is trained again.
    """
    asked = [stage for stage in config.stages if request.stage in (None, stage.name)]
    if request.resume != "auto":
        return asked  # an older checkpoint, or none, may stand before a stage's end
    trained, again = list[StageConfig](), asked[-1:]
    settled = settled_stages(folder)
    for stage in asked:
        if stage.name not in settled:
            trained.append(stage)
        elif settled[stage.name]["verdict"] == STOP:
            again = [stage]  # it ends there
            break
    return trained or again
