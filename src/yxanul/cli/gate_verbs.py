"""`gate`: show a run's verdicts, each computed again from what is stored; decide otherwise."""

import getpass
import math
import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from yxanul import __version__
from yxanul.cli import options
from yxanul.cli.output import plain_console, print_json, say
from yxanul.curriculum.checks.check import Check
from yxanul.curriculum.checks.kinds import NAMES, kinds
from yxanul.curriculum.course import read_frozen_config
from yxanul.curriculum.forecasts import forecast_levels, levels_yaml
from yxanul.curriculum.recompute import (
    Judgement,
    LostScoresError,
    judge_again,
    judge_verdict,
    stored_judgement,
    with_override,
)
from yxanul.errors import CorruptDataError, InfrastructureError, UsageError
from yxanul.report.reading.words import FORMATS, MINUS
from yxanul.runfolder.decisions import find_decidable, override_verdict
from yxanul.runfolder.exits import begun_run
from yxanul.runfolder.layout import RunFolder
from yxanul.runfolder.mirror import Mirror
from yxanul.runfolder.rows import finite

_NUMBERS = ("margin", "n", "MDE")
# What the kinds of the page have too few digits for in a table without a note beside it.
_FINER = {"change": "small change", "share": "small share"}
_LEGEND = (
    "G2, G3: change of bits per byte, less is better. G4: change of a skill, more is better.\n"
    "%: a relative change, or a share; pp: percentage points, of a rate of right items;\n"
    "G7 of gold_bpb: nats per byte. What G4 only reports is told as it stands.\n"
    "bounds: one-sided 95 %; n: documents, items or their clusters; MDE: minimal detectable effect"
)
Override = Annotated[
    str | None,
    typer.Option(
        "--override",
        metavar="VERDICT",
        help="Decide otherwise about the last verdict, given with --stage: pass, extend or "
        "rollback. It is recorded beside the gate's own, and the next start acts on it.",
    ),
]
Reason = Annotated[str | None, typer.Option("--reason", help="Why; --override needs it.")]
Forecast = Annotated[
    bool,
    typer.Option(
        "--forecast", help="Print this run's curves as gate.level for the stage files of another."
    ),
]


def gate(
    run: Annotated[Path, typer.Argument(help="A run folder.")],
    stage: Annotated[
        str | None, typer.Option("--stage", help="Only the gate of this stage; default: all.")
    ] = None,
    override: Override = None,
    reason: Reason = None,
    forecast: Forecast = False,
    json: options.Json = False,
) -> None:
    """Show what the gates of a run decided, computed again from its stored scores.

    Example: yxanul gate runs/first --stage stage2_reasoning
    """
    if forecast and (override is not None or reason is not None):
        raise UsageError("--forecast prints curves and decides nothing; leave --override out")
    if reason is not None and override is None:
        raise UsageError("--reason without --override decides nothing; add what you decide")
    if forecast:
        levels = forecast_levels(run, stage=stage)
        if json:
            print_json({"run_folder": str(run), "levels": levels})
        else:
            print(levels_yaml(levels), end="")
        return
    if override is None:
        judgements = judge_again(run, stage=stage)
    else:
        judgements = [_override(run, stage, decided=override, reason=reason or "")]
    if json:
        told = [_as_json(judgement) for judgement in judgements]
        print_json({**_newest(told), "run_folder": str(run), "gates": told})
    else:
        console = plain_console()
        for judgement in judgements:
            console.print(_table(judgement))
            console.print(_told(judgement))
        console.print(_LEGEND)
    other = [judgement.stage for judgement in judgements if not judgement.agrees]
    if other:
        say(
            f"yxanul: the stored verdict on {', '.join(other)} does not follow from what is stored "
            f"by the rules of this program ({__version__}); the run's own is named in "
            f"{RunFolder(run).environment}"
        )
        if override is None:  # else what a person decided is recorded, and counts
            raise typer.Exit(CorruptDataError.exit_code)


def _override(run: Path, stage: str | None, *, decided: str, reason: str) -> Judgement:
    """Record what a person decides, and return the judgement that it is about.

    The gate is computed again before: damage leaves no decision behind. Scores that are gone, maybe
    for good, leave it to the person.
    """
    if stage is None:
        raise UsageError("--override needs --stage with the stage whose gate is meant")
    folder = begun_run(run)
    last = find_decidable(folder, stage, decided=decided, reason=reason)  # before the computing
    try:
        judgement = judge_verdict(folder, last)
    except LostScoresError as lost:
        judgement = stored_judgement(folder, last)
        say(f"the verdict was not computed again: {lost}")
    was = override_verdict(folder, stage, decided=decided, by=_who(), reason=reason)
    say(f"{stage}: {was['verdict']} -> {decided}; start the run again to go on")
    _send_to_mirror(folder)
    return with_override(folder, judgement)


def _send_to_mirror(folder: RunFolder) -> None:
    """Put what was decided where another machine takes the run up, and say what came of it."""
    address = read_frozen_config(folder).optimization.checkpoint.mirror
    if address is None:
        return
    alone = f"what was decided is in {folder.gates} alone"
    try:
        is_there = Mirror(address, folder, say=say).publish_verdicts()
    except (InfrastructureError, UsageError) as error:  # a start in the folder heeds it anyway
        say(f"mirror: {error}; {alone}")
        return
    if is_there:
        say(f"mirror: {address} has it as well, for a machine that takes the run up from there")
    else:
        say(f"mirror: {address} has no copy of this attempt; {alone}")


def _who() -> str:
    """Return the name of who decides, or the number of a user that has no name (a container's)."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"user {os.getuid()}"


def _as_json(judgement: Judgement) -> dict[str, Any]:
    """Return a judgement as plain values; what is not finite is null."""
    decision = judgement.decision
    return {
        "stage": judgement.stage,
        "attempt": judgement.attempt,
        "step": judgement.step,
        "asked": "plateau" if judgement.is_plateau else "end",
        "verdict": decision.verdict,
        "why": decision.why,
        "agrees_with_stored": judgement.agrees if judgement.is_computed else None,
        "override": judgement.override,
        "checks": [finite(asdict(check)) for check in decision.checks],
    }


def _newest(told: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the newest verdict; where no stage has ended, what was asked last, without one."""
    ended = [one for one in told if one["asked"] == "end"]
    return ended[-1] if ended else {**told[-1], "verdict": None}


def _table(judgement: Judgement) -> Table:
    decision = judgement.decision
    agreement = "as stored" if judgement.agrees else f"STORED WAS {judgement.stored_verdict}"
    if not judgement.is_computed:
        agreement += ", not computed again"
    asked = ", before its decay" if judgement.is_plateau else ""
    title = f"{judgement.stage}{asked}, attempt {judgement.attempt}: "
    title += f"{decision.verdict} ({agreement})"
    if judgement.override is not None:
        title += "\n{by} decided {verdict}: {reason}".format(**judgement.override)
    table = Table(title=title, title_justify="left")
    for column in ("check", "result", "value [bounds]", *_NUMBERS):
        right = column in _NUMBERS
        table.add_column(
            column, justify="right" if right else "left", no_wrap=right, overflow="fold"
        )
    for check in decision.checks:
        if check.value is None:
            continue
        kind, size = kinds(check.id, check.subject or "")
        n = "" if check.n is None else f"{check.n:,}"
        margin = _written(check.margin, kind)
        table.add_row(
            _name(check), check.result, _interval(check), margin, n, _written(check.mde, size)
        )
    return table


def _told(judgement: Judgement) -> str:
    """Return a line for each check whose numbers do not tell all."""
    return "".join(
        f"{_name(check)}: {check.result}, {check.why}\n"
        for check in judgement.decision.checks
        if check.result != "pass" or check.low is None
    )


def _name(check: Check) -> str:
    return f"{check.id} {check.subject or NAMES.get(check.id, '')}".strip()


def _interval(check: Check) -> str:
    kind, _ = kinds(check.id, check.subject or "")
    bounds = (_written(check.low, kind), _written(check.high, kind))
    value = _written(check.value, kind)
    return f"{value} [{', '.join(bounds)}]" if all(bounds) else value


def _written(value: float | None, kind: str) -> str:
    """Return a figure in the unit that the page gives it, with a minus that a keyboard has."""
    if value is None or math.isinf(value):
        return ""
    return FORMATS[_FINER.get(kind, kind)](value).replace(MINUS, "-")
