"""The weights that a run begins with when it does not begin with new ones."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from torch import Tensor

from yxanul.config.schema import ModelConfig
from yxanul.errors import CorruptCheckpointError, CorruptDataError, HubUnreachableError, UsageError
from yxanul.evaluate.models.hub import is_hub_id, of_cache, snapshot, snapshot_at
from yxanul.evaluate.models.loaded import as_tensors, fitting
from yxanul.export.reading import (
    absent_files,
    accept_folder,
    is_hugging_face_folder,
    read_folder,
)
from yxanul.model.transformer import Transformer
from yxanul.runfolder.layout import RunFolder
from yxanul.runfolder.lineage import has_begun
from yxanul.runfolder.weights import find_weights
from yxanul.train.starting.request import RunRequest

# What a configuration may call otherwise without being another model.
_FREE = {"name", "initializer_range", "max_position_embeddings"}


def with_weights_here(
    request: RunRequest, folder: RunFolder, *, say: Callable[[str], None]
) -> RunRequest:
    """Return the request with weights of the hub brought here; a run that has begun needs none.

    Raises what `snapshot` does, and `refuse_unusable_weights`.
    """
    refuse_unusable_weights(request, folder)
    name = request.init_from
    if name is None or has_begun(folder.lineage) or not is_hub_id(name):
        return request
    found = snapshot(name, accept=accept_folder)
    say(f"--init_from: {found.note}")
    return replace(request, init_from=str(found.folder))


def refuse_unusable_weights(request: RunRequest, folder: RunFolder) -> None:
    """Refuse a folder to begin with that is not there, or of another tokenizer; ask no hub.

    A run that has begun needs none.
    """
    name = request.init_from
    if name is None or is_hub_id(name) or has_begun(folder.lineage):
        return
    if not Path(name).is_dir():
        raise UsageError(f"--init_from {name}: there is no such folder")
    if is_hugging_face_folder(Path(name)):
        accept_folder(Path(name))


def brought_again(place: Path, *, say: Callable[[str], None]) -> Path:
    """Return where the weights lie that a run was begun with: at `place`, unless it is gone.

    What lay in the hub's cache is brought, or completed, at the commit that it was. Raises what
    `snapshot` does, and a `CorruptDataError` for a model that is not whole there either.
    """
    known = of_cache(place)
    if known is None or not absent_files(place):
        return place
    found, names = snapshot_at(*known)
    absent = absent_files(found.folder)
    if names and (nowhere := [name for name in absent if name not in names]):
        raise CorruptDataError(
            f"{found.note} has no {', '.join(nowhere)} on the hub either, so the weights that the "
            "run was begun with are not whole; bring a good copy back"
        )
    if absent:  # without the hub, or its list, the cache hands out half a model
        raise HubUnreachableError(
            f"{found.note} is here in part, and the hub could not be reached for the rest of it: "
            "try again later"
        )
    say(f"--init_from: {found.note}")
    return found.folder


def take_weights(place: Path, model: Transformer) -> Path:
    """Give the model the weights of a checkpoint, a run folder or a Hugging Face folder.

    Returns where they lie. Raises what `read_weights` does.
    """
    tensors, origin = read_weights(place, model.config)
    try:
        model.load_state_dict(fitting(tensors, model, origin=origin))
    except CorruptCheckpointError as error:  # they are whole, and another model's
        raise UsageError(str(error)) from error
    return origin.resolve()


def read_weights(place: Path, shape: ModelConfig) -> tuple[dict[str, Tensor], Path]:
    """Return a checkpoint's, a run folder's or a Hugging Face folder's weights, and where they lie.

    Another shape is a `UsageError`, damage a `CorruptDataError`; a run whose newest checkpoint is
    damaged is not replaced by an older one unasked.
    """
    if is_hugging_face_folder(place):
        read = read_folder(place)
        _refuse_another(read.config, shape)
        return read.tensors, place
    found = find_weights(place)
    if found.refused:
        raise CorruptCheckpointError(
            f"{next(iter(found.refused.values()))}; name another of its checkpoints"
        )
    return as_tensors(found.weights.model), found.weights.info.path


def _refuse_another(given: ModelConfig, ours: ModelConfig) -> None:
    """Refuse a shape that the tensors' own shapes may not reveal, such as another rope_theta."""
    for key, value in given.model_dump(exclude=_FREE).items():
        if value != getattr(ours, key):
            raise UsageError(f"its {key} is {value}, and this run's is {getattr(ours, key)}")
