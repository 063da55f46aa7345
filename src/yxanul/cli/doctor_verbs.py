"""`doctor`: every optimisation, whether it is used on this machine, and why."""

from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.table import Table

from yxanul.cli import options
from yxanul.cli.output import plain_console, print_json
from yxanul.config.load import load_config
from yxanul.config.schema import OptimizationConfig, StageConfig
from yxanul.errors import UsageError
from yxanul.hardware.choices import pick_device, processes_here
from yxanul.hardware.doctor import Diagnosis, examine, refuse_inactive
from yxanul.hardware.failures import naming_failed_hardware

_TITLES = {
    "active": "active: a run here uses it",
    "available": "available: this machine can, the configuration does not ask",
    "unavailable": "unavailable: this machine or this version cannot",
}


def doctor(
    config_dir: Annotated[
        Path | None,
        typer.Option("--config_dir", help="Judge this folder's settings instead of the defaults."),
    ] = None,
    overrides: options.Overrides = None,
    strict: options.Strict = False,
    json: options.Json = False,
) -> None:
    """List every optimisation: active, available or unavailable on this machine, and why.

    Of several cards all are meant, a process on each, as torchrun starts them.

    Example: yxanul doctor --config_dir configs/embedded
    """
    optimization, stages = _settings(config_dir, overrides or [])
    processes = processes_here()
    with naming_failed_hardware():
        diagnosis = examine(optimization, stages, device=pick_device(), processes=processes)
    if strict and json:
        refuse_inactive(diagnosis.features)
    if json:
        print_json(
            {
                "device": diagnosis.device,
                "torch": torch.__version__,
                "processes": processes,
                "gemm_flops": dict(diagnosis.rates),
                "features": [feature.as_json() for feature in diagnosis.features],
            }
        )
        return
    console = plain_console()
    told = "" if processes == 1 else f", {processes} processes, one per card"
    console.print(f"{diagnosis.device}, torch {torch.__version__}{told}")
    for state in _TITLES:
        console.print()
        console.print(_table(diagnosis, state))
    if strict:
        refuse_inactive(diagnosis.features)


def _settings(
    config_dir: Path | None, overrides: list[str]
) -> tuple[OptimizationConfig, tuple[StageConfig, ...]]:
    if config_dir is not None:
        config = load_config(config_dir, overrides=overrides)
        return config.optimization, config.stages
    if overrides:
        raise UsageError(
            f"--set {overrides[0]} changes a configuration; name one with --config_dir"
        )
    return OptimizationConfig(), ()


def _table(diagnosis: Diagnosis, state: str) -> Table:
    table = Table(box=None, show_header=False, title=_TITLES[state], title_justify="left")
    table.add_column(min_width=27)
    table.add_column(overflow="fold")
    for feature in diagnosis.features:
        if feature.state == state:
            table.add_row(feature.name, feature.reason)
    return table
