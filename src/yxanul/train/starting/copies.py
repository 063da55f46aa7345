"""What a start takes of its run's copy at checkpoint.mirror: the run, or what people decided.

The one idea: a run goes on in one place. What lies at the mirror is brought where nothing is here,
heeded where the run is here, and never trained beside.
"""

from yxanul.config.schema import RunConfig
from yxanul.errors import InfrastructureError, UsageError
from yxanul.runfolder.bringing import bring_back, bring_newest
from yxanul.runfolder.layout import RunFolder
from yxanul.runfolder.lineage import current_attempt, has_begun
from yxanul.runfolder.lost import has_lost_checkpoints
from yxanul.runfolder.mirror import holds_attempt, holds_run, other_copy, refuse_own_folder
from yxanul.runfolder.mirror_decisions import bring_decisions
from yxanul.runfolder.storage import Place, reaching
from yxanul.train.processes.machine import Machine
from yxanul.train.starting.request import RunRequest


def bring_run(
    config: RunConfig, folder: RunFolder, *, request: RunRequest, machine: Machine, is_done: bool
) -> None:
    """Bring the run back that lies at checkpoint.mirror, if the folder holds none.

    Of a run whose checkpoints alone are gone the newest one is brought, unless it `is_done`. One
    that would go on beside another's copy is refused.
    """
    address = config.optimization.checkpoint.mirror
    if address is None:
        return
    is_begun = has_begun(folder.lineage)
    is_lost = is_begun and not is_done and has_lost_checkpoints(folder)
    with reaching(address):
        place = Place(address)  # a wrong address is told now, and not after a quarter of an hour
        refuse_own_folder(address, folder)
    if is_begun and not is_done:
        _heed_copy(address, folder, machine=machine)
    if is_begun and not is_lost:
        return
    with reaching(address):
        if is_lost and request.resume != "never":
            if not bring_newest(address, folder, say=machine.heard):
                machine.heard(f"{address} has no good checkpoint of the run's last attempt")
            return
        attempt = current_attempt(folder.lineage)
        if is_lost and attempt > 0 and not holds_attempt(place, attempt):
            return  # it begins again, and what it begins from is brought
        if not holds_run(place):
            # Who is not let in is told of no files; a run begun for that would replace the one
            # that lies there.
            place.try_out()
            return
    if request.asks_for_empty_folder or request.resume == "never":
        raise UsageError(f"checkpoint.mirror {address} holds a run already; name another address")
    bring_back(address, folder, say=machine.heard)


def _heed_copy(address: str, folder: RunFolder, *, machine: Machine) -> None:
    """Take over what people decided of the copy at the address; refuse to write over another's.

    An address that does not answer, or lets nobody in, ends no run that has begun: that is told,
    and it is asked again before every copy.
    """
    try:
        with reaching(address):
            other = other_copy(address, folder)
        decided = bring_decisions(address, folder) if other is None else []
    except (InfrastructureError, UsageError) as error:
        machine.progress.say(f"mirror: {error}")
        return
    if other is not None:
        raise UsageError(other)
    for row in decided:
        told = f"{row['by']} decided {row['verdict']} of {row['stage']}"
        machine.progress.say(f"mirror: {told} at {address}; it counts here as well")
