"""`watch`: a run as it goes on, in the terminal."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Annotated

import typer
from rich.live import Live

from yxanul.cli import options
from yxanul.cli.output import plain_console, print_json, say
from yxanul.errors import UsageError, YxanulError
from yxanul.runfolder.bringing import bring_rows, bring_scores
from yxanul.runfolder.layout import RunFolder
from yxanul.runfolder.storage import is_address
from yxanul.watch.plain import snapshot_json
from yxanul.watch.screen import screen, screen_that_fits
from yxanul.watch.snapshot import Snapshot, Watch, may_begin

_LOCAL_S, _MIRROR_S = 2.0, 30.0

Run = Annotated[
    str,
    typer.Argument(
        metavar="RUN",
        help="A run folder, or the address of its mirror (checkpoint.mirror): s3://..., hf://...",
    ),
]
Every = Annotated[
    float | None,
    typer.Option(
        "--every_s",
        min=0.1,
        max=86_400,
        callback=options.finite,  # older releases of typer find nan within any bounds
        help="Seconds between two looks, at most a day; default 2, of a mirror 30.",
    ),
]
Once = Annotated[
    bool,
    typer.Option("--once", help="Look once; so it does without a terminal, or with TERM=dumb."),
]


def watch(run: Run, every_s: Every = None, once: Once = False, json: options.Json = False) -> None:
    """Show a run while it goes on: stages, curves, scores, cost and forecast, incidents.

    Reads the run folder and changes nothing. It ends with the run, ten minutes later where a
    supervisor may start it again or it was killed, or with Ctrl-C.

    Example: yxanul watch runs/first
    """
    is_mirror, is_live = _is_mirror(run), not (json or once) and _is_redrawn()
    if is_live and not is_mirror and not _has_begun(RunFolder(Path(run))):
        return
    with _opened(run) as look:
        if json:
            print_json(snapshot_json(look()))
        elif not is_live:
            plain_console().print(screen(look(), source=run))
        else:
            usual_s = _MIRROR_S if is_mirror else _LOCAL_S
            _go_on(_looks(look, every_s=every_s or usual_s, is_mirror=is_mirror), run)


def _is_redrawn() -> bool:
    """Tell whether stdout is a terminal where one look can replace the one before.

    On one that only adds lines (TERM=dumb) rich would show nothing until the end.
    """
    return sys.stdout.isatty() and plain_console().is_interactive


def _has_begun(folder: RunFolder) -> bool:
    """Wait for the beginning of a run that prepares its data; False when a person leaves.

    One that will not begin is not waited for, which the first look tells.
    """
    seen_at: float | None = None
    is_told = False
    try:
        while not folder.config.is_file():
            if folder.is_held_elsewhere():
                seen_at = time.time()
            elif not may_begin(folder, seen_at=seen_at):
                break
            if not is_told:
                say(f"{folder.root} prepares its data; the view begins with its training")
                is_told = True
            time.sleep(_LOCAL_S)
    except KeyboardInterrupt:
        return False  # as in `_go_on`
    return True


@contextmanager
def _opened(run: str) -> Iterator[Callable[[], Snapshot]]:
    """Yield what looks at a run once more, wherever it lies."""
    if not _is_mirror(run):
        yield Watch(RunFolder(Path(run))).look
        return
    with TemporaryDirectory(prefix="yxanul-watch-") as place:
        folder = RunFolder(Path(place))
        _bring(run, folder)
        # The copy's own name is nobody's.
        watched = Watch(folder, is_mirror=True, name=_name_of(run))

        def look() -> Snapshot:
            _bring(run, folder)
            return watched.look()

        yield look


def _bring(mirror: str, folder: RunFolder) -> None:
    """Copy what a mirror tells of its run; one that holds none is a `UsageError`."""
    rows = (folder.lineage, folder.gates, folder.metrics, folder.spending, folder.exit_record)
    if folder.config not in bring_rows(mirror, [folder.config, *rows]):
        raise UsageError(
            f"{mirror} holds no run; name the address that the run has as checkpoint.mirror, once "
            "its first checkpoint is there"
        )
    bring_scores(mirror, folder)


def _is_mirror(run: str) -> bool:
    """Tell an address, or a folder that is a mirror, from a run folder."""
    return is_address(run) or (Path(run) / "run" / "config.yaml").is_file()


def _name_of(mirror: str) -> str:
    """Return what a mirror is called: the last part of its address."""
    return PurePosixPath(mirror).name if is_address(mirror) else Path(mirror).resolve().name


def _go_on(looks: Iterator[tuple[Snapshot, str | None]], run: str) -> None:
    """Show look after look, each cut to the terminal, and the last one whole, which stays."""
    console = plain_console()
    try:
        with Live(console=console, auto_refresh=False, screen=False) as live:
            for seen, trouble in looks:
                if seen.has_ended:
                    told = screen(seen, source=run, trouble=trouble)
                else:
                    told = screen_that_fits(seen, source=run, trouble=trouble, console=console)
                live.update(told, refresh=True)
    except KeyboardInterrupt:
        return  # the way to leave, and nobody's failure


def _looks(
    look: Callable[[], Snapshot], *, every_s: float, is_mirror: bool
) -> Iterator[tuple[Snapshot, str | None]]:
    """Yield look after look until the run has ended.

    A mirror that was seen once and then cannot be is asked again: what was seen last stays, with
    the reason why it is old.
    """
    seen, seen_at, trouble = look(), _clock(), None
    while True:
        yield seen, trouble
        if seen.has_ended:
            return
        time.sleep(every_s)
        try:
            seen, seen_at, trouble = look(), _clock(), None
        except YxanulError as error:
            if not is_mirror:
                raise
            trouble = f"as seen at {seen_at}, asked again every {every_s:g} s: {error}"


def _clock() -> str:
    return time.strftime("%H:%M:%S")
