"""`supervise`: start a command again where that may help."""

import sys
from typing import Annotated

import typer

from yxanul.cli import options
from yxanul.cli.output import print_json, say
from yxanul.errors import UsageError
from yxanul.supervise.supervisor import supervise as supervise_command
from yxanul.terminal import outliving_terminal


def supervise(
    command: Annotated[
        list[str],
        typer.Argument(metavar="-- COMMAND", help="What to start: yxanul run, torchrun, a script."),
    ],
    backoff_s: Annotated[
        float,
        typer.Option(
            "--backoff_s",
            min=0.0,
            callback=options.finite,
            help="Seconds before a start after a failure; doubled at each more at one step.",
        ),
    ] = 5.0,
    json: options.Json = False,
) -> None:
    """Start a command, and start it again when it was stopped, killed or failed from outside.

    A gate's stop, a wrong setting, damaged data, a full disk or diverged numbers end it at once.
    Ctrl-C stops the run, saved, and nothing is started again.

    --json prints one object at the end; what the command itself prints goes to stderr.

    Example: yxanul supervise -- yxanul run --config_dir configs --out runs/first
    """
    if not command:
        raise UsageError("name a command after --: yxanul supervise -- yxanul run ...")
    with outliving_terminal():
        stdout = sys.stderr.fileno() if json else None
        done = supervise_command(command, backoff_s=backoff_s, say=say, stdout=stdout)
        if json:
            told = {"reason": done.reason, "starts": done.starts, "why": done.why}
            print_json({"exit_code": done.code, **told})
    # Not by typer.Exit, whose 130 means a Ctrl-C that no verb has taken (main.py).
    sys.exit(done.code)
