"""The target of a Hugging Face folder, with whose weights a run may begin."""

import json
from functools import cache
from pathlib import Path

from safetensors.torch import save

from tests.fuzz.target import Target, holding, refused, scratch
from tests.model.tiny import model_with_norms, shape
from yxanul.export.gemma import TENSOR_PREFIX, gemma_config
from yxanul.export.reading import read_folder

INDEX = "model.safetensors.index.json"


@cache
def exported() -> Path:
    """A folder of a small model, its weights in one file."""
    folder = scratch("exported")
    model = model_with_norms(shape())
    config = gemma_config(model.config, dtype="float32")
    (folder / "config.json").write_text(json.dumps(config))
    tensors = {TENSOR_PREFIX + name: tensor for name, tensor in model.state_dict().items()}
    (folder / "model.safetensors").write_bytes(save(tensors))
    return folder


def read(content: bytes) -> None:
    """Read the bytes as the folder's configuration, as its weights, and as the index of shards."""
    folder = exported()
    for name in ("config.json", "model.safetensors"):
        with holding(folder / name, content):
            refused(read_folder, folder)
    (folder / INDEX).write_bytes(content)
    try:
        refused(read_folder, folder)
    finally:
        (folder / INDEX).unlink()


def seeds() -> list[bytes]:
    index = {"weight_map": {"model.norm.weight": "model.safetensors"}}
    files = [exported() / name for name in ("config.json", "model.safetensors")]
    return [*(path.read_bytes() for path in files), json.dumps(index).encode()]


TARGETS = (Target("exported", read, seeds),)
