"""Run folders as training leaves them, made without training."""

from pathlib import Path

import numpy as np

from tests.data.memory import MemorySource, plan, prepare_plans, sentences
from tests.train.world import write_configs
from yxanul.config.load import dump_config, load_config
from yxanul.model.transformer import Transformer
from yxanul.runfolder.checkpoints import CheckpointInfo, checkpoint_name
from yxanul.runfolder.layout import RunFolder
from yxanul.runfolder.saving import save_checkpoint

SETTINGS = ("compute.precision=bf16", "compute.attention=plain", "data.source=texts")
# A new model that says more than one word.
SETTINGS += ("model.initializer_range=0.3", "evaluation.tokens_per_domain=400")


def write_run(root: Path) -> RunFolder:
    """A run folder with its frozen configuration and no checkpoint."""
    configs = write_configs(root.with_name(f"{root.name}-configs"))
    run = RunFolder(root)
    run.create()
    run.config.write_text(dump_config(load_config(configs, overrides=SETTINGS)))
    return run


def write_run_with_data(root: Path, *, step: int) -> RunFolder:
    """A run folder of two stages with its data, and a checkpoint of that step."""
    run = write_run(root)
    plans = [
        plan(MemorySource("tales", sentences(120)), stage="stage1_tales"),
        plan(MemorySource("sums", sentences(40, about="sum"), domain="sums"), stage="stage2_sums"),
    ]
    prepare_plans(run.data, plans=plans)
    add_checkpoint(run, step)
    return run


def new_model(run: RunFolder, *, seed: int) -> Transformer:
    """A model of the run's shape, fp32 throughout, other weights for each seed."""
    config = load_config(run.root.with_name(f"{run.root.name}-configs"), overrides=SETTINGS)
    return Transformer.initialised(config.model, seed=seed)


def add_checkpoint(
    run: RunFolder,
    step: int,
    *,
    attempt: int = 0,
    model: Transformer | None = None,
    trained: tuple[str, ...] = (),
) -> Path:
    """Write a checkpoint of a model, or of one whose weights are those of the seed `step`.

    It says that it was `trained` on sources of these names.
    """
    model = model or new_model(run, seed=step)
    path = run.checkpoints / checkpoint_name(step, attempt)
    info = CheckpointInfo(path, step, attempt, step * 64, "stage1_tales", False, None)
    save_checkpoint(
        run.checkpoints,
        info,
        model={name: tensor.numpy() for name, tensor in model.state_dict().items()},
        optimizer={"updates": np.array(step)},
        state={"data": dict.fromkeys(trained, "sha256")},
    )
    return path


def flip_bit(path: Path) -> None:
    """Damage a file in its middle."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
