"""Whether a run may stand in its folder: what is refused of one before data is prepared."""

from yxanul.config.schema import RunConfig
from yxanul.errors import UsageError
from yxanul.runfolder.checkpoints import list_checkpoints
from yxanul.runfolder.layout import RunFolder
from yxanul.runfolder.lineage import current_attempt
from yxanul.runfolder.lost import refuse_lost_checkpoints
from yxanul.runfolder.supervised import is_started_again
from yxanul.train.attempts.resume import begins_by_name, named_checkpoint, possible_checkpoint
from yxanul.train.starting.ended import finished_outcome
from yxanul.train.starting.init_from import refuse_unusable_weights
from yxanul.train.starting.request import RunRequest


def check_folder(config: RunConfig, folder: RunFolder, *, request: RunRequest) -> None:
    """Refuse what can be refused before data is prepared, which may take hours."""
    if folder.root.exists() and not folder.root.is_dir():
        raise UsageError(f"--out {folder.root} is a file; name a folder")
    if request.names_checkpoint:
        possible_checkpoint(folder, request.resume)  # before a mirror's copy is brought
    if config.optimization.checkpoint.mirror is None:
        refuse_missing_start(config, folder, request=request)
        refuse_unusable_weights(request, folder)
    if is_started_again(folder.root.resolve()):
        return
    if request.asks_for_empty_folder and not folder.is_empty():
        raise UsageError(f"--fresh: {folder.root} is not empty; choose another --out or delete it")
    if request.resume == "never":
        attempt = current_attempt(folder.lineage)
        if list_checkpoints(folder.checkpoints, attempt=attempt):
            raise UsageError(
                f"--resume never: {folder.root} holds checkpoints; choose another --out or delete "
                "them"
            )


def refuse_missing_start(config: RunConfig, folder: RunFolder, *, request: RunRequest) -> None:
    """Refuse a checkpoint's name that leads nowhere, and a later stage without one to go on from.

    A stage that has passed already needs none.
    """
    if begins_by_name(folder, request):
        named_checkpoint(folder, request)
    is_later = request.stage is not None and len(config.stages) > 1
    if not is_later or request.init_from is not None or list_checkpoints(folder.checkpoints):
        return
    if finished_outcome(config, folder, request=request) is None:
        if request.resume != "never":
            refuse_lost_checkpoints(folder)
        raise UsageError(
            f"--stage {request.stage} needs the weights of {config.stages[-2].name}: train that "
            "stage first into the same --out, or name weights with --init_from"
        )
