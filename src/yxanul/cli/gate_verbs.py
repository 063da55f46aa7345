"""`gate`: show a run's verdicts, each computed again from what is stored."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from yxanul.cli import options
from yxanul.cli.output import print_json, say
from yxanul.curriculum.checks.check import Check
from yxanul.curriculum.recompute import Judgement, judge_again
from yxanul.errors import CorruptDataError
from yxanul.runfolder.rows import finite

_NAMES = {"G0": "integrity", "G1": "stability"}


def gate(
    run: Annotated[Path, typer.Argument(help="A run folder.")],
    stage: Annotated[
        str | None, typer.Option("--stage", help="Only the gate of this stage; default: all.")
    ] = None,
    json: options.Json = False,
) -> None:
    """Show what the gates of a run decided, computed again from its stored scores.

    Example: yxanul gate runs/first --stage stage2_reasoning
    """
    judgements = judge_again(run, stage=stage)
    if json:
        told = [_as_json(judgement) for judgement in judgements]
        print_json({**told[-1], "run_folder": str(run), "gates": told})
    else:
        console = Console()
        for judgement in judgements:
            console.print(_table(judgement))
    other = [judgement.stage for judgement in judgements if not judgement.agrees]
    if other:
        say(f"yxanul: the stored verdict on {', '.join(other)} does not follow from what is stored")
        raise typer.Exit(CorruptDataError.exit_code)


def _as_json(judgement: Judgement) -> dict[str, Any]:
    """Return a judgement as plain values; what is not finite is null."""
    decision = judgement.decision
    return {
        "stage": judgement.stage,
        "attempt": judgement.attempt,
        "step": judgement.step,
        "verdict": decision.verdict,
        "why": decision.why,
        "agrees_with_stored": judgement.agrees,
        "checks": [finite(asdict(check)) for check in decision.checks],
    }


def _table(judgement: Judgement) -> Table:
    decision = judgement.decision
    agreement = "as stored" if judgement.agrees else f"STORED WAS {judgement.stored_verdict}"
    title = f"{judgement.stage}, attempt {judgement.attempt}: {decision.verdict} ({agreement})"
    table = Table(title=title, title_justify="left")
    for column in ("check", "result", "change, one-sided 95 % bounds", "margin", "n", "why"):
        table.add_column(column, justify="right" if column in ("margin", "n") else "left")
    for check in decision.checks:
        name = f"{check.id} {check.subject or _NAMES.get(check.id, '')}".strip()
        n = "" if check.n is None else f"{check.n:,}"
        margin = "" if check.margin is None else f"{check.margin:+.2%}"
        # What passed by its numbers is said by them.
        why = "" if check.result == "pass" and check.low is not None else check.why
        table.add_row(name, check.result, _interval(check), margin, n, why)
    return table


def _interval(check: Check) -> str:
    if check.value is None:
        return ""
    if check.low is None or check.high is None:
        return f"{check.value:.2%}"
    return f"{check.value:+.2%} [{check.low:+.2%}, {check.high:+.2%}]"
