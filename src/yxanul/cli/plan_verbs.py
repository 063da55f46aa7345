"""`plan`: what a run costs, and which promises hold, before anything is rented."""

from typing import Annotated

import typer
from rich.console import Console

from yxanul.cli import options
from yxanul.cli.output import print_json
from yxanul.config.load import load_config
from yxanul.plan.hardware import Wishes
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


def plan(
    config_dir: options.ConfigDir,
    gpus: Gpus = None,
    usd_per_gpu_hour: UsdPerGpuHour = None,
    mfu: Mfu = None,
    budget_usd: BudgetUsd = None,
    model: options.Model = None,
    overrides: options.Overrides = None,
    json: options.Json = False,
) -> None:
    """Compute size, work, memory, tokens, hours and dollars, and judge what was promised.

    Example: yxanul plan --config_dir configs --gpus 8xH100 --usd_per_gpu_hour 2.50
    """
    wishes = Wishes(gpus=gpus, mfu=mfu, usd_per_gpu_hour=usd_per_gpu_hour, budget_usd=budget_usd)
    config = load_config(config_dir, model=model, overrides=tuple(overrides or ()))
    planned = plan_run(config, wishes)
    if json:
        print_json(plan_json(planned))
    else:
        Console().print(render(planned), highlight=False)
