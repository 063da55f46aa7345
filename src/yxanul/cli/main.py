"""The program `yxanul`: verbs, exit codes, and one clear sentence for a user's mistake."""

import importlib
import os
import sys
import traceback
from collections.abc import Sequence
from typing import Annotated

import typer

import yxanul
from yxanul.cli.output import print_json, say
from yxanul.errors import DiskError, UsageError, YxanulError
from yxanul.hardware.memory import exhaustion, is_out_of_memory
from yxanul.runfolder.durable import refused_path
from yxanul.runfolder.supervised import is_main_process, tell_supervisor
from yxanul.terminal import ReaderLeftError, StdoutError, heeding_readers

_VERBS = {
    "run": "run_verbs:run",
    "train": "run_verbs:train",
    "prepare": "data_verbs:prepare_data",
    "inspect": "data_verbs:inspect",
    "plan": "plan_verbs:plan",
    "preflight": "preflight_verbs:preflight",
    "evaluate": "evaluate_verbs:evaluate",
    "gate": "gate_verbs:gate",
    "report": "report_verbs:report",
    "watch": "watch_verbs:watch",
    "doctor": "doctor_verbs:doctor",
    "generate": "generate_verbs:generate",
    "export": "export_verbs:export",
    "serve": "serve_verbs:serve",
    "bench": "bench_verbs:app",
    "supervise": "supervise_verbs:supervise",
}
"""{verb: its module in this room, and its function or the app of its own verbs}."""
_INTERRUPTED = 130
_NO_MEMORY = "run fewer other programs on this machine, or take one with more memory"
_GOES_ON = "the same command goes on from what is finished"
_VERBS_THAT_GO_ON = ("run", "train", "prepare", "supervise")
_VERBS_OF_RANKS = ("run", "train")


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"yxanul {yxanul.__version__}")
        raise typer.Exit


def _options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", is_eager=True, callback=_print_version, help="Print the version and leave."
        ),
    ] = False,
) -> None:
    """Pretrain small, deep, narrow language models from scratch, in gated stages."""


def build_app(verb: str | None = None) -> typer.Typer:
    """Return the program with one verb, or with all of them where `verb` is none.

    A verb is loaded when it is wanted: most need torch, which takes seconds, and some do not. Nor
    does `--version` in its place.
    """
    app = typer.Typer(
        name="yxanul",
        add_completion=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["--help", "-h"]},
    )
    app.callback()(_options)
    wanted = [] if verb == "--version" else [verb] if verb in _VERBS else _VERBS
    for name in wanted:
        module, _, attribute = _VERBS[str(name)].partition(":")
        found = getattr(importlib.import_module(f"yxanul.cli.{module}"), attribute)
        if isinstance(found, typer.Typer):
            app.add_typer(found, name=name)
        else:
            app.command(name)(found)
    return app


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the program and leave with its exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    with heeding_readers():
        code = _exit_code(words)
    # Where nothing has loaded it there is no group to leave, and torch need not be loaded for it.
    processes = sys.modules.get("yxanul.parallel.processes")
    if processes is not None:
        processes.leave(code)
    sys.exit(code)


def _exit_code(words: list[str]) -> int:
    app = build_app(next(iter(words), None))
    try:
        code = app(words or ["--help"], standalone_mode=False, prog_name="yxanul")
        print(end="", flush=True)  # what cannot be written shows here, not at Python's own end
        if not words:
            return UsageError.exit_code
        if code == _INTERRUPTED:
            return _interrupted(words)
        return code if isinstance(code, int) else 0
    except typer.Abort:
        return _interrupted(words)
    except YxanulError as error:
        return _refuse(words, str(error), error.exit_code)
    except SystemExit as left:
        # Typer ends so, without a word, when any pipe but stdout breaks.
        if not isinstance(left.__context__, BrokenPipeError):
            raise
        return _bug(words, left.__context__)
    except Exception as error:  # noqa: BLE001  (the last door: nothing passes it unseen)
        return _unforeseen(words, error)


def _unforeseen(words: list[str], error: Exception) -> int:
    """Return the code for an error that is none of ours; the user's and the machine's are told."""
    # Typer carries click beside or inside itself, by version: its usage errors are known by this
    # method.
    usage_message = getattr(error, "format_message", None)
    if usage_message is not None:
        return _refuse(words, usage_message(), UsageError.exit_code)
    if isinstance(error, ReaderLeftError):
        return _leave_stdout(0)
    if is_out_of_memory(error):
        goes_on = f"{_GOES_ON}. Where it comes again: " if _does_go_on(words) else ""
        told = exhaustion(error, f"{goes_on}{_NO_MEMORY}")
        return _refuse(words, str(told), told.exit_code)
    if isinstance(error, StdoutError):
        say(f"yxanul: standard output cannot be written: {error.strerror}")
        return _leave_stdout(DiskError.exit_code)
    if isinstance(error, OSError) and (refused := refused_path(error)) is not None:
        return _refuse(words, str(refused), refused.exit_code)
    return _bug(words, error)


def _bug(words: list[str], error: Exception) -> int:
    traceback.print_exception(error)  # a bug of ours: it must be seen whole
    return _refuse(words, f"internal error: {type(error).__name__}: {error}", 1)


def _leave_stdout(code: int) -> int:
    """Give up stdout and return `code`: else Python would try once more to write what is left."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return code


def _interrupted(words: list[str]) -> int:
    """Typer tells of a Ctrl-C by this exit code or by Abort, depending on its version."""
    reason = "interrupted"
    if _does_go_on(words):
        reason = f"interrupted; {_GOES_ON}"
    elif "evaluate" in words[:1]:
        reason = "interrupted; records of finished tasks are kept, the same command scores all anew"
    return _refuse(words, reason, _INTERRUPTED)


def _does_go_on(words: list[str]) -> bool:
    """Tell whether the verb keeps what it has done for the next start; the others begin anew."""
    return next(iter(words), None) in _VERBS_THAT_GO_ON


def _refuse(words: list[str], reason: str, code: int) -> int:
    tell_supervisor(code=code, reason=reason)
    say(f"yxanul: {reason}")
    is_silent = next(iter(words), None) in _VERBS_OF_RANKS and not is_main_process()
    if "--json" in words and not is_silent:
        try:
            print_json({"error": reason, "exit_code": code})
        except OSError:  # nobody reads it, or a disk is full: the sentence has gone to stderr
            return _leave_stdout(code)
    return code
