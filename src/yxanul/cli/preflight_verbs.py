"""`preflight`: is this machine worth its rent? A matter of minutes, and nothing is trained."""

from typing import Annotated

import typer
from rich.table import Table

from yxanul.cli import options
from yxanul.cli.output import plain_console, print_json, say
from yxanul.preflight.flight import Preflight, Wishes
from yxanul.preflight.flight import preflight as make_checks
from yxanul.train.starting.request import RunRequest


def preflight(
    config_dir: options.ConfigDir,
    out: options.Out = None,
    data: options.Data = None,
    bench_dir: options.BenchDir = None,
    usd_per_hour: Annotated[
        float | None,
        typer.Option("--usd_per_hour", help="Price of the whole machine, all its cards, per hour."),
    ] = None,
    budget_usd: Annotated[
        float | None,
        typer.Option("--budget_usd", help="Dollars for the whole run; default: budget.usd."),
    ] = None,
    nproc: Annotated[
        int | None,
        typer.Option(
            "--nproc",
            min=1,
            help="Processes that will train on this machine; default: one per card.",
        ),
    ] = None,
    model: options.Model = None,
    overrides: options.Overrides = None,
    json: options.Json = False,
) -> None:
    """Check a machine before it is paid for: speed, bus, disk, memory, what is read, mirror, cost.

    It leaves with 20 if the plan cannot fit the budget, and trains nothing.

    Example: yxanul preflight --config_dir configs --out runs/big --usd_per_hour 12.80 --budget_usd
    200
    """
    request = RunRequest(
        config_dir,
        model=model,
        data=data,
        bench_dir=bench_dir,
        out=out,
        overrides=tuple(overrides or ()),
    )
    wishes = Wishes(request, usd_per_hour=usd_per_hour, budget_usd=budget_usd, processes=nproc)
    found = make_checks(wishes, say=say)
    if json:
        print_json(found.as_json())
    else:
        _print(found)
    if found.code:
        raise typer.Exit(found.code)


def _print(found: Preflight) -> None:
    table = Table(box=None, show_header=False)
    table.add_column(min_width=10, overflow="fold")
    table.add_column(min_width=4)
    table.add_column(overflow="fold")
    for finding in found.findings:
        table.add_row(finding.name, finding.state, finding.why)
    console = plain_console()
    console.print(table)
    console.print(found.conclusion, soft_wrap=True)
