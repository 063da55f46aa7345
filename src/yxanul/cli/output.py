"""How a verb speaks: results on stdout, everything else on stderr, JSON with --json.

Of the processes that share a run the main one prints results (`is_main_process`).
"""

import json
import sys
from typing import Any

from rich.console import Console
from rich.table import Table

from yxanul.train.starting.request import RunOutcome
from yxanul.units import format_duration


def say(text: str) -> None:
    """Print one line of news on stderr."""
    print(text, file=sys.stderr, flush=True)


def plain_console(*, stderr: bool = False) -> Console:
    """Return a console that prints text as it stands: [words] and :words: are no markup here."""
    return Console(stderr=stderr, markup=False, emoji=False, highlight=False)


def print_json(value: dict[str, Any]) -> None:
    """Print a JSON object on stdout, on a line of its own."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    try:
        text.encode(getattr(sys.stdout, "encoding", None) or "utf-8")
    except UnicodeEncodeError:  # a path that is not UTF-8, or a stdout that is not
        text = json.dumps(value, allow_nan=False)
    print(text, flush=True)


def print_outcome(outcome: RunOutcome) -> None:
    """Print what a run reached, stage by stage, for a person."""
    console = plain_console()
    table = Table(
        title=f"{outcome.run_folder}: {outcome.steps:,} steps, {outcome.tokens_seen:,} tokens"
    )
    table.add_column("stage")
    table.add_column("gate")
    table.add_column("held-out bits per byte, before -> after")
    for stage in outcome.stages:
        table.add_row(stage.name, stage.verdict, _changes(stage.bpb_before, stage.bpb_after))
    console.print(table)
    for stage in outcome.stages:
        for words in stage.skills:
            console.print(f"{stage.name}: {words}", soft_wrap=True)
    if outcome.tokens_per_s is not None:
        mfu = f", MFU {outcome.mfu:.1%}" if outcome.mfu is not None else ""
        console.print(
            f"{outcome.tokens_per_s:,.0f} tokens/s{mfu}; "
            f"training {format_duration(outcome.training_s)}, "
            f"evaluation {format_duration(outcome.evaluation_s)}"
        )
    if outcome.report is not None:
        console.print(f"report: {outcome.report}", soft_wrap=True)


def _changes(before: dict[str, float] | None, after: dict[str, float] | None) -> str:
    if after is None:
        return "not scored"
    old = {domain: f"{value:.4f} -> " for domain, value in (before or {}).items()}
    return "\n".join(f"{domain} {old.get(domain, '')}{v:.4f}" for domain, v in after.items())
