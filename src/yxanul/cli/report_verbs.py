"""`report`: a run folder as one page."""

from pathlib import Path
from typing import Annotated

import typer

from yxanul.cli import options
from yxanul.cli.output import print_json
from yxanul.errors import UsageError
from yxanul.report.write import write_report


def report(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN", help="A run folder.")],
    json: options.Json = False,
) -> None:
    """Write RUN/report.html: one page that works offline, on a phone and in dark mode.

    Example: yxanul report runs/first
    """
    if len(runs) > 1:
        raise UsageError(
            f"yxanul report takes one run at a time in this version, not {len(runs)}; call it once "
            "for each run"
        )
    path = write_report(runs[0])
    if json:
        print_json({"report": str(path), "bytes": path.stat().st_size})
    else:
        print(path)
