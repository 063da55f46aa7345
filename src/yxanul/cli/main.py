"""The program `yxanul`: verbs, exit codes, and one clear sentence for a user's mistake."""

import errno
import os
import sys
import traceback
from collections.abc import Sequence
from typing import Annotated

import typer

import yxanul
from yxanul.cli import (
    bench_verbs,
    data_verbs,
    doctor_verbs,
    evaluate_verbs,
    export_verbs,
    gate_verbs,
    generate_verbs,
    plan_verbs,
    preflight_verbs,
    report_verbs,
    run_verbs,
    serve_verbs,
    supervise_verbs,
)
from yxanul.cli.output import print_json, say
from yxanul.errors import DiskError, UsageError, YxanulError
from yxanul.runfolder.supervised import tell_supervisor

app = typer.Typer(
    name="yxanul",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["--help", "-h"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"yxanul {yxanul.__version__}")
        raise typer.Exit


@app.callback()
def _program(
    version: Annotated[
        bool,
        typer.Option(
            "--version", is_eager=True, callback=_print_version, help="Print the version and leave."
        ),
    ] = False,
) -> None:
    """Pretrain small, deep, narrow language models from scratch, in gated stages."""


app.command("run")(run_verbs.run)
app.command("train")(run_verbs.train)
app.command("prepare")(data_verbs.prepare_data)
app.command("inspect")(data_verbs.inspect)
app.command("plan")(plan_verbs.plan)
app.command("evaluate")(evaluate_verbs.evaluate)
app.command("gate")(gate_verbs.gate)
app.command("report")(report_verbs.report)
app.command("doctor")(doctor_verbs.doctor)
app.command("preflight")(preflight_verbs.preflight)
app.command("generate")(generate_verbs.generate)
app.command("export")(export_verbs.export)
app.command("serve")(serve_verbs.serve)
app.add_typer(bench_verbs.app, name="bench")
app.command("supervise")(supervise_verbs.supervise)

_INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the program and leave with its exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    sys.exit(_exit_code(words))


def _exit_code(words: list[str]) -> int:
    if not words:
        app(["--help"], standalone_mode=False, prog_name="yxanul")
        return UsageError.exit_code
    try:
        code = app(words, standalone_mode=False, prog_name="yxanul")
        if code == _INTERRUPTED:
            return _interrupted(words)
        return code if isinstance(code, int) else 0
    except typer.Abort:
        return _interrupted(words)
    except YxanulError as error:
        return _refuse(words, str(error), error.exit_code)
    except Exception as error:  # noqa: BLE001  (the last door: nothing passes it unseen)
        # Typer carries click beside or inside itself, by version: its usage errors are known by
        # this method.
        usage_message = getattr(error, "format_message", None)
        if usage_message is not None:
            return _refuse(words, usage_message(), UsageError.exit_code)
        if isinstance(error, BrokenPipeError):
            return _leave_stdout(0)  # the reader of a pipe has seen enough, as `| head` has
        if isinstance(error, OSError) and error.filename is None and error.errno == errno.ENOSPC:
            say("yxanul: standard output cannot be written: no space left on device")
            return _leave_stdout(DiskError.exit_code)
        if isinstance(error, OSError) and error.filename is not None:
            reason = f"{error.filename} cannot be used: {error.strerror}; name another path"
            return _refuse(words, reason, UsageError.exit_code)
        traceback.print_exc()  # a bug of ours: it must be seen whole
        return _refuse(words, f"internal error: {type(error).__name__}: {error}", 1)


def _leave_stdout(code: int) -> int:
    """Give up stdout and return `code`: else Python would try once more to write what is left."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return code


def _interrupted(words: list[str]) -> int:
    """Typer tells of a Ctrl-C by this exit code or by Abort, depending on its version."""
    reason = "interrupted; the same command goes on from what is finished"
    if "evaluate" in words[:1]:
        reason = "interrupted; records of finished tasks are kept, the same command scores all anew"
    return _refuse(words, reason, _INTERRUPTED)


def _refuse(words: list[str], reason: str, code: int) -> int:
    say(f"yxanul: {reason}")
    tell_supervisor(code=code, reason=reason)
    if "--json" in words:
        print_json({"error": reason, "exit_code": code})
    return code
