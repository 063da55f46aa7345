"""Where `generate` and `serve` find a model that writes: a run, a Hugging Face folder, the hub."""

from pathlib import Path

from yxanul.data.tokenizer import load_tokenizer
from yxanul.evaluate.models.hub import is_hub_id, snapshot
from yxanul.evaluate.models.loaded import WritingModel, fitting, load_model
from yxanul.export.reading import (
    is_hugging_face_folder,
    read_folder,
    read_shape,
    refuse_other_tokenizer,
)
from yxanul.hardware.choices import DTYPES, pick_device, precision_by_rule
from yxanul.hardware.device import use_own_cores
from yxanul.model.transformer import Transformer


def open_writing_model(name: str) -> WritingModel:
    """Load a run's newest checkpoint, a named one, or what `yxanul export` wrote, also on the hub.

    torch takes its threads before. Raises what `load_model`, `read_folder` and `snapshot` do.
    """
    use_own_cores()
    place = Path(name)
    if is_hub_id(name):
        found = snapshot(name, accept=_accept)
        return _of_folder(found.folder, called=place, notes=(found.note,))
    if is_hugging_face_folder(place):
        _accept(place)
        return _of_folder(place, called=place)
    loaded = load_model(place)
    where = loaded.info.path
    return WritingModel(
        model=loaded.model,
        tokenizer=loaded.tokenizer,
        name=where.resolve().parents[1].name,
        place=where,
        step=loaded.info.step,
        notes=loaded.notes,
        run=loaded,
    )


def _accept(place: Path) -> None:
    """Refuse a folder of another architecture or tokenizer, as its config.json tells."""
    read_shape(place)
    refuse_other_tokenizer(place)


def _of_folder(place: Path, *, called: Path, notes: tuple[str, ...] = ()) -> WritingModel:
    read, device = read_folder(place), pick_device()
    precision = precision_by_rule(device)
    model = Transformer.without_weights(
        read.config, compute_dtype=DTYPES[precision], attention="plain"
    )
    model.load_state_dict(fitting(read.tensors, model, origin=place), assign=True)
    return WritingModel(
        model=model.to(device),
        tokenizer=load_tokenizer(),
        name=called.resolve().name,
        place=called,
        step=None,
        notes=(
            *notes,
            f"{called} does not say in what precision it was trained: computing in {precision}",
        ),
        run=None,
    )
