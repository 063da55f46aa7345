"""How far a long piece of work is: a bar on a terminal, plain lines elsewhere, both on stderr."""

import time

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from yxanul.cli.output import plain_console, say

_SECONDS_BETWEEN_LINES = 10.0


class StderrWatcher:
    """A `yxanul.evaluate.watching.Watcher`."""

    def __init__(self) -> None:
        self._console = plain_console(stderr=True)
        self._bar: Progress | None = None
        self._what, self._total, self._done = "", 0, 0
        self._begun = self._told = 0.0

    def begin(self, what: str, *, total: int) -> None:
        """Open the bar of a new piece of work, or tell its size."""
        self.close()
        self._what, self._total, self._done = what, total, 0
        self._begun = self._told = time.monotonic()
        if not self._console.is_terminal:
            say(f"{what}: {total:,}")
            return
        columns = (MofNCompleteColumn(), BarColumn(bar_width=20), TimeRemainingColumn())
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
        elif now - self._told >= _SECONDS_BETWEEN_LINES and self._done < self._total:
            self._told = now
            rate = self._done / (now - self._begun)
            left_s = (self._total - self._done) / rate
            say(
                f"{self._what}: {self._done:,}/{self._total:,}, {rate:,.1f} per s, {left_s:.0f} s "
                "left"
            )

    def close(self) -> None:
        """End the bar."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
