"""How far a long piece of work is: a bar on a terminal, plain lines elsewhere, both on stderr."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from yxanul.cli.output import plain_console, say
from yxanul.terminal import has_room_for_bar
from yxanul.units import format_duration

_SECONDS_BETWEEN_LINES = 10.0


class _Rate(ProgressColumn):
    """How many are done per second, of late."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:,.1f} per s")


class StderrWatcher:
    """A `Watcher` of `yxanul.data.progress`."""

    def __init__(self) -> None:
        self._console = plain_console(stderr=True)
        self._bar: Progress | None = None
        self._what, self._done = "", 0
        self._total: int | None = None
        self._begun = self._told = 0.0

    @property
    def is_bar(self) -> bool:
        """Whether there is a terminal for a bar; else lines are told."""
        return has_room_for_bar(self._console)

    def begin(self, what: str, *, total: int | None) -> None:
        """Open the bar of a new piece of work, or tell its size; None = that is not known."""
        self.close()
        self._what, self._total, self._done = what, total, 0
        self._begun = self._told = time.monotonic()
        if not self.is_bar:
            say(what if total is None else f"{what}: {total:,}")
            return
        columns = (MofNCompleteColumn(), BarColumn(bar_width=20), _Rate(), TimeRemainingColumn())
        self._bar = Progress(
            TextColumn("{task.description}", markup=False),
            *columns,
            console=self._console,
            transient=True,
        )
        self._bar.start()
        self._bar.add_task(what, total=total)

    def advance(self, count: int) -> None:
        """Show that so many are done more, with their rate and the time left."""
        self._done += count
        now = time.monotonic()
        if self._bar is not None:
            self._bar.advance(self._bar.task_ids[0], count)
        elif now - self._told >= _SECONDS_BETWEEN_LINES and self._done != self._total:
            self._told = now
            rate = self._done / (now - self._begun)
            of = left = ""
            if self._total is not None:
                left = f", {format_duration((self._total - self._done) / rate)} left"
                of = f"/{self._total:,}"
            say(f"{self._what}: {self._done:,}{of}, {rate:,.1f} per s{left}")

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Take the bar away inside the block, where results are printed.

        It would take them for news, and write them to stderr.
        """
        if self._bar is not None:
            self._bar.stop()
        yield
        if self._bar is not None:
            self._bar.start()

    def close(self) -> None:
        """End the bar."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
