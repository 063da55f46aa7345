"""`plan`: what a run costs, and which promises hold, before anything is rented."""

import shlex
from pathlib import Path
from typing import Annotated

import typer

from yxanul.cli import options
from yxanul.cli.output import plain_console, print_json
from yxanul.config.load import load_config
from yxanul.errors import UsageError
from yxanul.plan.compare import comparison
from yxanul.plan.hardware import Wishes
from yxanul.plan.measured import Meant, read_measured
from yxanul.plan.plain import plan_json
from yxanul.plan.render import render
from yxanul.plan.summary import plan_run

Gpus = Annotated[
    str | None,
    typer.Option("--gpus", help="Count and card, e.g. 8xA100-80GB; default: several machines."),
]
UsdPerGpuHour = Annotated[
    float | None,
    typer.Option("--usd_per_gpu_hour", help="Rent of one card of --gpus, in dollars per hour."),
]
Mfu = Annotated[
    float | None,
    typer.Option("--mfu", help="Share of the card's peak that the run reaches, e.g. 0.40 (PaLM)."),
]
BudgetUsd = Annotated[
    float | None,
    typer.Option("--budget_usd", help="Dollars to spend: how many tokens do they buy?"),
]
MeasuredFiles = Annotated[
    list[Path] | None,
    typer.Option(
        "--measured",
        help="What `yxanul bench step --config_dir DIR --model FILE --json` printed of the plan's "
        "model in its settings, on the machine that is meant, a CPU or a card. May be given many "
        "times, for several lengths.",
    ),
]
Compare = Annotated[
    list[Path] | None,
    typer.Option(
        "--compare",
        help="Another folder like --config_dir, side by side with it. May be given many times.",
    ),
]


def plan(
    config_dir: options.ConfigDir,
    gpus: Gpus = None,
    usd_per_gpu_hour: UsdPerGpuHour = None,
    mfu: Mfu = None,
    budget_usd: BudgetUsd = None,
    measured: MeasuredFiles = None,
    compare: Compare = None,
    model: options.Model = None,
    overrides: options.Overrides = None,
    json: options.Json = False,
) -> None:
    """Compute size, work, memory, tokens, hours and dollars, and judge what was promised.

    Example: yxanul plan --config_dir configs --gpus 8xH100 --usd_per_gpu_hour 2.50
    """
    folders = [config_dir, *(compare or ())]
    if len(set(folders)) < len(folders):
        raise UsageError("--compare names a folder twice; name each recipe once")
    configs = {
        folder: load_config(folder, model=model, overrides=tuple(overrides or ()))
        for folder in folders
    }
    changed = "".join(f" --set {shlex.quote(word)}" for word in overrides or ())
    meant = [
        Meant(
            config,
            f"--config_dir {shlex.quote(str(folder))} --model {_shape(folder, model)}{changed}",
        )
        for folder, config in configs.items()
    ]
    wishes = Wishes(
        gpus=gpus,
        mfu=mfu,
        usd_per_gpu_hour=usd_per_gpu_hour,
        budget_usd=budget_usd,
        own=read_measured(measured, meant=meant) if measured else None,
    )
    plans = {str(folder): plan_run(config, wishes) for folder, config in configs.items()}
    planned = plans[str(config_dir)]
    if json:
        others = {"compared": {name: plan_json(one) for name, one in plans.items()}}
        print_json({**plan_json(planned), **(others if compare else {})})
    else:
        plain_console().print(comparison(plans) if compare else render(planned))


def _shape(folder: Path, model: str | None) -> str:
    """Return the plan's shape as `bench step --model` takes it, as a word of a shell."""
    return shlex.quote(model or str(folder / "model_config.yaml"))
