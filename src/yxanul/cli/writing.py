"""Where `generate` and `serve` find a model that writes: a run, or a Hugging Face folder."""

from pathlib import Path

from yxanul.data.tokenizer import load_tokenizer
from yxanul.evaluate.models.loaded import WritingModel, fitting, load_model
from yxanul.export.reading import is_hugging_face_folder, read_folder, refuse_other_tokenizer
from yxanul.hardware.choices import DTYPES, pick_device, precision_by_rule
from yxanul.model.transformer import Transformer


def open_writing_model(place: Path) -> WritingModel:
    """Load a run's newest checkpoint, a named one, or a folder that `yxanul export` wrote.

    Raises what `load_model` and `read_folder` do.
    """
    if is_hugging_face_folder(place):
        return _of_folder(place)
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


def _of_folder(place: Path) -> WritingModel:
    refuse_other_tokenizer(place)
    read, device = read_folder(place), pick_device()
    precision = precision_by_rule(device)
    model = Transformer.without_weights(
        read.config, compute_dtype=DTYPES[precision], attention="plain"
    )
    model.load_state_dict(fitting(read.tensors, model, origin=place), assign=True)
    return WritingModel(
        model=model.to(device),
        tokenizer=load_tokenizer(),
        name=place.resolve().name,
        place=place,
        step=None,
        notes=(f"{place} does not say in what precision it was trained: computing in {precision}",),
        run=None,
    )
