"""`report`: a run folder as one page, or several runs side by side."""

from pathlib import Path
from typing import Annotated

import typer

from yxanul.cli import options
from yxanul.cli.output import print_json
from yxanul.errors import UsageError
from yxanul.report.write import write_comparison, write_report

Out = Annotated[
    Path | None,
    typer.Option(
        "--out", help="File of the comparison; default comparison.html beside the first run."
    ),
]


def report(
    runs: Annotated[
        list[Path], typer.Argument(metavar="RUN", help="A run folder; several: a comparison.")
    ],
    out: Out = None,
    json: options.Json = False,
) -> None:
    """Write RUN/report.html: one page that works offline, on a phone and in dark mode.

    Of several runs it writes a page that compares them.

    Example: yxanul report runs/first
    """
    if len(runs) == 1:
        if out is not None:
            raise UsageError("--out is the comparison's; the report of one run lies in its folder")
        path = write_report(runs[0])
    else:
        path = write_comparison(runs, out or runs[0].resolve().parent / "comparison.html")
    if json:
        print_json({"report": str(path), "bytes": path.stat().st_size})
    else:
        print(path)
