"""A Hugging Face folder of our architecture, here or on the hub, as a model of ours."""

from dataclasses import dataclass
from pathlib import Path

from yxanul.evaluate.models.hub import is_hub_id, snapshot
from yxanul.evaluate.models.loaded import fitting
from yxanul.export.reading import accept_folder, is_hugging_face_folder, read_folder
from yxanul.hardware.choices import DTYPES
from yxanul.model.transformer import Transformer


@dataclass(frozen=True)
class OpenedFolder:
    """The model of a folder; `notes` are sentences that its user should see."""

    model: Transformer
    """fp32 weights, on the CPU."""
    place: Path
    """Where its files lie."""
    notes: tuple[str, ...]


def is_folder(name: str) -> bool:
    """Tell whether a MODEL, as it was typed, is a Hugging Face folder or owner/name on the hub."""
    return is_hub_id(name) or is_hugging_face_folder(Path(name))


def open_folder(name: str, *, precision: str) -> OpenedFolder:
    """Load a MODEL that `is_folder`, to compute in `precision`, fp32 or bf16.

    Another architecture or tokenizer is refused before weights are asked for: a `UsageError`. Else
    it raises what `read_folder` and `snapshot` do.
    """
    place = Path(name)
    notes: tuple[str, ...] = ()
    if is_hub_id(name):
        found = snapshot(name, accept=accept_folder)
        place, notes = found.folder, (found.note,)
    else:
        accept_folder(place)
    read = read_folder(place)
    model = Transformer.without_weights(
        read.config, compute_dtype=DTYPES[precision], attention="plain"
    )
    model.load_state_dict(fitting(read.tensors, model, origin=place), assign=True)
    return OpenedFolder(model, place, notes)
