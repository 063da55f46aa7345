"""Where `generate` and `serve` find a model that writes: a run, a Hugging Face folder, the hub."""

from pathlib import Path

from yxanul.cli.folders import is_folder, open_folder
from yxanul.data.tokenizer import load_tokenizer
from yxanul.evaluate.models.loaded import WritingModel, load_model
from yxanul.hardware.choices import precision_by_rule, usable_device
from yxanul.hardware.device import use_own_cores
from yxanul.hardware.failures import naming_failed_hardware


@naming_failed_hardware()
def open_writing_model(name: str) -> WritingModel:
    """Load a run's newest checkpoint, a named one, or what `yxanul export` wrote, also on the hub.

    torch takes its threads before. Raises what `load_model` and `open_folder` do.
    """
    use_own_cores()
    if is_folder(name):
        return _of_folder(name)
    loaded = load_model(Path(name))
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


def _of_folder(name: str) -> WritingModel:
    device, called = usable_device(), Path(name)
    precision = precision_by_rule(device)
    found = open_folder(name, precision=precision)
    return WritingModel(
        model=found.model.to(device),
        tokenizer=load_tokenizer(),
        name=called.resolve().name,
        place=called,
        step=None,
        notes=(
            *found.notes,
            f"{called} does not say in what precision it was trained: computing in {precision}",
        ),
        run=None,
    )
