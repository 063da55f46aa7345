"""What a person sees while the run goes on: a bar on a terminal, plain lines elsewhere."""

import time

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Column

from yxanul.terminal import has_room_for_bar
from yxanul.units import format_duration, format_usd
from yxanul.watch.pace import Outlook

_SECONDS_BETWEEN_LINES = 10.0


class RunProgress:
    """Shows stage, loss, bits per byte, tokens/s, MFU, and what the whole run will cost, on stderr.

    Invisible ones (the other ranks') print nothing.
    """

    def __init__(self, *, visible: bool) -> None:
        self._visible = visible
        self._console = Console(stderr=True)
        self._bar: Progress | None = None
        self._last_line = 0.0
        self._bpb = ""

    def say(self, text: str) -> None:
        """Print one line of news, above the bar if there is one."""
        if self._visible:
            # Long lines are left to the terminal: a log file should not be wrapped at 80.
            self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    def begin(self, stage: str, *, done: int, total: int) -> None:
        """Open the bar of a stage at `done` of `total` steps."""
        self.close()
        self._last_line = time.monotonic()
        if self._visible and has_room_for_bar(self._console):
            # What must be seen stands first; the news takes the rest of a narrow terminal.
            rest = Column(ratio=1, no_wrap=True, overflow="ellipsis")
            self._bar = Progress(
                TextColumn("{task.description}", markup=False),
                MofNCompleteColumn(),
                TimeRemainingColumn(),
                BarColumn(bar_width=10),
                TextColumn("{task.fields[news]}", markup=False, table_column=rest),
                console=self._console,
                expand=True,
            )
            self._bar.start()
            self._bar.add_task(stage, total=total, completed=done, news="")

    def scored(self, bpb: dict[str, float]) -> None:
        """Remember the newest bits per byte for the next line."""
        told = ", ".join(f"{domain} {value:.3f}" for domain, value in bpb.items())
        self._bpb = f"held-out bpb {told}" if told else ""

    def step(
        self,
        stage: str,
        *,
        done: int,
        total: int,
        row: dict[str, object],
        outlook: Outlook | None,
    ) -> None:
        """Show one step; `row` is its metric row."""
        if not self._visible:
            return
        news = _news(row, self._bpb)
        if outlook is not None:
            news += f"; {_whole_run(outlook)}"
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], completed=done, news=news)
        elif time.monotonic() - self._last_line >= _SECONDS_BETWEEN_LINES or done == total:
            self._last_line = time.monotonic()
            self.say(f"{stage} {done}/{total}: {news}")

    def close(self) -> None:
        """End the bar."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


def _whole_run(outlook: Outlook) -> str:
    """Return what the run has cost and will: "4 min 2 s of about 9 min 51 s, $1 of $2.50"."""
    seconds, usd = outlook.seconds, outlook.usd
    told = f"run {format_duration(seconds.spent)} of about {format_duration(seconds.whole)}"
    if usd is not None:
        told += f", {format_usd(usd.spent)} of {format_usd(usd.whole)}"
    return told


def _news(row: dict[str, object], bpb: str) -> str:
    parts = [
        f"loss {row['loss']:.3f}",
        f"seq {row['seq_len']}",
        f"{row['tokens_per_s']:,.0f} tokens/s",
    ]
    if isinstance(row.get("mfu"), float):
        parts.append(f"MFU {row['mfu']:.0%}")
    return ", ".join([*parts, bpb] if bpb else parts)
