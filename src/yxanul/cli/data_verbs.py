"""`prepare`, `inspect` and `plan`: what can be done before and beside a run."""

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from yxanul.cli import options
from yxanul.cli.output import print_json, say
from yxanul.config.load import load_config
from yxanul.data.inspect import inspect_folder, render
from yxanul.data.manifest import MANIFEST_NAME
from yxanul.data.prepare import prepare
from yxanul.errors import UsageError
from yxanul.plan.render import render as render_plan
from yxanul.plan.summary import plan_json, plan_run
from yxanul.runfolder.checkpoints import list_checkpoints, verify_checkpoint
from yxanul.runfolder.layout import RunFolder
from yxanul.train.request import RunRequest
from yxanul.train.setup import read_config


def prepare_data(
    config_dir: options.ConfigDir,
    stage: options.Stage,
    out: Annotated[Path, typer.Option("--out", help="Folder for the shards and their manifest.")],
    data: options.Data = None,
    overrides: options.Overrides = None,
    json: options.Json = False,
) -> None:
    """Turn documents into verified token shards (--stage all: of every stage).

    Example: yxanul prepare --config_dir configs/embedded --stage all --data embedded --out
    data/embedded
    """
    one = None if stage == "all" else stage
    config = read_config(
        RunRequest(config_dir, stage=one, data=data, overrides=tuple(overrides or ()))
    )
    prepare(config.stages, out, progress=say)
    inspection = inspect_folder(out)
    if json:
        print_json(inspection.to_json())
    else:
        print(render(inspection))


def inspect(
    folder: Annotated[Path, typer.Argument(help="A prepared folder or a run folder.")],
    verify: Annotated[
        bool, typer.Option("--verify", help="Compare every byte with the recorded sha256.")
    ] = False,
    token: Annotated[
        int | None, typer.Option("--token", min=0, help="Which document holds this training token?")
    ] = None,
    json: options.Json = False,
) -> None:
    """Show what a prepared folder or a run folder holds; --verify compares every byte.

    Example: yxanul inspect runs/first --verify
    """
    if not folder.is_dir():
        raise UsageError(f"{folder} is not a folder; name a prepared folder or a run folder")
    run = RunFolder(folder)
    if (folder / MANIFEST_NAME).is_file():
        data, checkpoints = folder, []
    elif run.checkpoints.is_dir():
        data, checkpoints = run.prepared_data(), _checkpoints(run, verify=verify)
    else:
        raise UsageError(
            f"{folder} holds neither a manifest.json nor checkpoints; "
            "name a prepared folder or a run folder"
        )
    found = data if (data / MANIFEST_NAME).is_file() else None
    inspection = inspect_folder(found, verify_contents=verify, token=token) if found else None
    if json:
        told = inspection.to_json() if inspection else {}
        print_json({**told, "folder": str(folder), "checkpoints": checkpoints})
        return
    if inspection:
        print(render(inspection))
    for checkpoint in checkpoints:
        print(f"checkpoint {checkpoint['name']}: {checkpoint['state']}")


def plan(
    config_dir: options.ConfigDir,
    model: options.Model = None,
    overrides: options.Overrides = None,
    json: options.Json = False,
) -> None:
    """Compute parameters, operations, memory and tokens, and compare the plan's promises with them.

    Example: yxanul plan --config_dir configs
    """
    planned = plan_run(load_config(config_dir, model=model, overrides=tuple(overrides or ())))
    if json:
        print_json(plan_json(planned))
    else:
        Console().print(render_plan(planned))


def _checkpoints(run: RunFolder, *, verify: bool) -> list[dict[str, Any]]:
    """Describe the run's checkpoints; a damaged one is an error when `verify` asks."""
    described = []
    for path in list_checkpoints(run.checkpoints):
        state = "not verified"
        if verify:
            info = verify_checkpoint(path)
            state = f"verified, {info.tokens_seen:,} tokens, {info.stage}"
        described.append({"name": path.name, "state": state})
    return described
