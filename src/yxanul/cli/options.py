"""The options that several verbs share, each written once."""

import math
from pathlib import Path
from typing import Annotated

import typer


def finite(value: float | None) -> float | None:
    """Refuse inf and nan: no bound of an option does."""
    if value is not None and not math.isfinite(value):
        raise typer.BadParameter(f"{value} is not a finite number")
    return value


ConfigDir = Annotated[
    Path,
    typer.Option(
        "--config_dir", help="Folder with model_config.yaml, optimization.yaml and stage*.yaml."
    ),
]
Stage = Annotated[str, typer.Option("--stage", help="Name of the stage, e.g. stage1_wikipedia.")]
Model = Annotated[
    str | None, typer.Option("--model", help="A shape of configs/models by name, or a file.")
]
TrainedModel = Annotated[
    str,  # a path loses the ./ that tells it from owner/name
    typer.Argument(
        metavar="MODEL",
        help="A run folder (its newest checkpoint), one of its checkpoints, or what yxanul export "
        "wrote: a Hugging Face folder, or owner/name on the hub.",
    ),
]
Data = Annotated[
    str | None,
    typer.Option(
        "--data",
        help="hub, embedded (offline), a folder of JSONL/Parquet/text (of several stages: with a "
        "subfolder per stage, named like it), a prepared folder, or the address of one (s3://...).",
    ),
]
BenchDir = Annotated[
    Path | None,
    typer.Option(
        "--bench_dir", help="Folder with a file per benchmark; default: the hub (docs/gates.md)."
    ),
]
Out = Annotated[
    Path | None, typer.Option("--out", help="Run folder; default runs/<config>-<model>.")
]
Overrides = Annotated[
    list[str] | None,
    typer.Option(
        "--set", help="Change one key, e.g. training.batch_tokens=4096. May be given many times."
    ),
]
Resume = Annotated[
    str,
    typer.Option(
        "--resume",
        help="auto, never, or the name of a checkpoint to go on from; given again, the run goes on "
        "with what began there.",
    ),
]
Fresh = Annotated[
    bool,
    typer.Option(
        "--fresh",
        help="Refuse a run folder that is not empty; with --resume NAME: begin from it once more.",
    ),
]
Strict = Annotated[
    bool,
    typer.Option("--strict", help="Leave with 30 if an optimisation asked for is not active."),
]
MaxSteps = Annotated[
    int | None,
    typer.Option(
        "--max_steps",
        min=1,
        help="Stop early; schedules stay as they are, and the gate is not run.",
    ),
]
NumEpochs = Annotated[
    float | None,
    typer.Option(
        "--num_epochs",
        min=1e-6,
        callback=finite,
        help="Set the stage's tokens to this many passes over its own sources.",
    ),
]
InitFrom = Annotated[
    str | None,
    typer.Option(
        "--init_from",
        help="Begin with the weights of a run folder, of one of its checkpoints, or, of the same "
        "shape, of a Hugging Face folder or of owner/name on the hub.",
    ),
]
DeepSpeed = Annotated[
    Path | None,
    typer.Option(
        "--deepspeed", help="Train with DeepSpeed's ZeRO-1 and this JSON file of its settings."
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print exactly one JSON object on stdout.")]
