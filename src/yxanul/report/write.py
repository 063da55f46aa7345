"""The one entry of this room: a run folder in, RUN/report.html out."""

from __future__ import annotations

from pathlib import Path

from yxanul.report.gather import gather
from yxanul.report.page import render
from yxanul.runfolder.durable import write_atomic
from yxanul.runfolder.layout import RunFolder


def write_report(root: Path) -> Path:
    """Write RUN/report.html, whole or not at all, and return its path.

    A run that is still going is reported as far as its rows go. Raises `UsageError` if `root` is no
    run folder or has no metric row yet, `CorruptDataError` for damaged files, `DiskError`.
    """
    path = RunFolder(root).report
    write_atomic(path, render(gather(root)))
    return path
