"""A trained model as a run folder holds it, ready to be read: weights, shape, tokenizer.

Weights are verified and read without the optimizer's state, and the model is built around them, so
they are in memory once. Shape and precision are those that the run was frozen with.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from yxanul.config.schema import RunConfig
from yxanul.curriculum.course import read_frozen_config
from yxanul.data.tokenizer import Tokenizer, load_tokenizer
from yxanul.errors import CorruptCheckpointError, UsageError
from yxanul.hardware.choices import DTYPES, HIDING, precision_by_rule, usable_device
from yxanul.model.transformer import Transformer
from yxanul.runfolder.checkpoints import Checkpoint, CheckpointInfo, Weights
from yxanul.runfolder.layout import RunFolder
from yxanul.runfolder.weights import find_weights


@dataclass(frozen=True)
class LoadedModel:
    """A model for reading; `notes` are sentences that its user should see."""

    model: Transformer
    tokenizer: Tokenizer
    config: RunConfig
    info: CheckpointInfo
    notes: tuple[str, ...]


@dataclass(frozen=True)
class WritingModel:
    """A model that writes texts and needs no run for it; `notes` are for its user."""

    model: Transformer
    tokenizer: Tokenizer
    name: str
    place: Path
    """The checkpoint, or the Hugging Face folder, or owner/name on the hub."""
    step: int | None
    """None: a folder does not say it."""
    notes: tuple[str, ...]
    run: LoadedModel | None
    """The run that it belongs to; None: none is known."""

    @property
    def label(self) -> str:
        """The place, with the step where that is known."""
        return str(self.place) if self.step is None else f"{self.place}, step {self.step:,}"


def load_model(
    place: Path, *, precision: str | None = None, device: torch.device | None = None
) -> LoadedModel:
    """Load a run folder's newest checkpoint, or the named one; fp32 weights on a device.

    device None: that of `device_for_reading`; another leaves the card alone. It computes
    in `precision` (fp32 or bf16), None: in that of the run where the device has it. Raises
    `UsageError` for any other place, `CorruptDataError` for damaged files.
    """
    found = find_weights(place)
    weights = found.weights
    if not found.run.config.is_file():
        raise UsageError(
            f"{found.run.config} is missing, which holds the shape of {weights.info.name}; "
            "leave checkpoints in their run folder"
        )
    config = read_frozen_config(found.run)
    notes: list[str] = []
    if device is None:
        device, notes = device_for_reading(found.run, here=usable_device())
    if precision is None:
        frozen = config.optimization.compute.precision
        precision, lacks = _precision(frozen, precision_by_rule(device))
        notes += lacks
    skipped = [f"not used: {error}" for error in found.refused.values()]
    model = Transformer.without_weights(
        config.model, compute_dtype=DTYPES[precision], attention="plain"
    )
    tensors = fitting(as_tensors(weights.model), model, origin=weights.info.path)
    model.load_state_dict(tensors, assign=True)
    return LoadedModel(
        model.to(device), load_tokenizer(), config, weights.info, notes=(*skipped, *notes)
    )


def device_for_reading(run: RunFolder, *, here: torch.device) -> tuple[torch.device, list[str]]:
    """Return where to read a run's weights: `here`, or the CPU where it is trained; and notes.

    The longer sequences of its next stage may need all of the card. A card that `HIDING` names is
    taken: a person chose it, or a scheduler that knows nothing of the run.
    """
    if here.type == "cpu" or not run.is_held_elsewhere():
        return here, []
    if HIDING in os.environ:
        told = f"computing on the card that {HIDING} names, which may be the run's"
        return here, [f"{run.root} is being trained: {told}"]
    told = (
        f"{run.root} is being trained, and its card may get full: computing on the CPU; a card of "
        f"your choice is taken with {HIDING}=NUMBER"
    )
    return torch.device("cpu"), [told]


def trained_sources(checkpoint: Path) -> dict[str, str]:
    """Return {source: sha256 of its training shards} of all that a checkpoint of ours has read.

    What weights had read that the run was begun from is not in it. One that does not say it is a
    `CorruptCheckpointError`.
    """
    path = checkpoint / "state.json"
    try:
        return dict(json.loads(path.read_text(encoding="utf-8"))["data"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CorruptCheckpointError(f"{path} does not say what was trained on: {error}") from error


def copy_weights(weights: Weights | Checkpoint, model: Transformer) -> None:
    """Copy stored weights into the model; a misfit is a `CorruptCheckpointError`."""
    tensors = as_tensors(weights.model)
    model.load_state_dict(fitting(tensors, model, origin=weights.info.path))


def fitting(
    tensors: Mapping[str, Tensor], model: Transformer, *, origin: Path
) -> Mapping[str, Tensor]:
    """Return the tensors of `origin` if names and shapes are the model's.

    A misfit is a `CorruptCheckpointError`.
    """
    wanted = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    found = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    for name in [*wanted, *found]:
        if wanted.get(name) != found.get(name):
            raise CorruptCheckpointError(
                f"the weights of {origin} do not fit this model: {name} is "
                f"{found.get(name, 'absent')} and should be {wanted.get(name, 'absent')}"
            )
    return tensors


def as_tensors(arrays: Mapping[str, np.ndarray]) -> dict[str, Tensor]:
    """Return stored arrays as tensors that share their memory."""
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


def _precision(frozen: str, native: str) -> tuple[str, list[str]]:
    """Return the run's precision, or fp32 where this device would emulate it; and notes."""
    if frozen == "bf16" and native == "fp32":
        return native, ["the run computed in bf16, which this device lacks: computing in fp32"]
    return (frozen if frozen in DTYPES else native), []
