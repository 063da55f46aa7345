"""The entries of this room: a run folder in, RUN/report.html out; or several, and a comparison."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from yxanul.errors import UsageError
from yxanul.report.comparison import MOST_RUNS
from yxanul.report.page import render, render_comparison
from yxanul.report.reading.gather import Run, gather
from yxanul.runfolder.durable import write_atomic
from yxanul.runfolder.layout import RunFolder


def write_report(root: Path) -> Path:
    """Write RUN/report.html, whole or not at all, and return its path.

    A run that is still going is reported as far as its rows go. Raises `UsageError` if `root` is no
    run folder or has no metric row yet, `CorruptDataError` for damaged files, `DiskError`.
    """
    path = RunFolder(root).report
    write_atomic(path, render(gather(root)), is_shared=True)
    return path


def write_comparison(roots: Sequence[Path], path: Path) -> Path:
    """Write a page that compares several runs, whole or not at all, and return its path.

    A run that is named twice, and more runs than have colours, are a `UsageError`; else as
    `write_report`.
    """
    if len({root.resolve() for root in roots}) < len(roots):
        raise UsageError("a run is named twice; name each run once")
    if len(roots) > MOST_RUNS:
        raise UsageError(f"{len(roots)} runs are too many for one page; name at most {MOST_RUNS}")
    runs = _told_apart([gather(root) for root in roots], roots)
    title = f"{runs[0].name} and {len(runs) - 1} more" if len(runs) > 2 else _both(runs)
    write_atomic(path, render_comparison(runs, title), is_shared=True)
    return path


def _both(runs: Sequence[Run]) -> str:
    return " and ".join(run.name for run in runs)


def _told_apart(runs: list[Run], roots: Sequence[Path]) -> list[Run]:
    """Return the runs with the whole path as name, where two would be called the same."""
    if len({run.name for run in runs}) == len(runs):
        return runs
    return [replace(run, name=str(root)) for run, root in zip(runs, roots, strict=True)]
