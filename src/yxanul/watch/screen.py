"""A look at a run as a screen of a terminal: what one wants to know at three in the morning."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain, pairwise
from typing import TYPE_CHECKING

from yxanul.units import format_bytes, format_count, format_duration, format_hours, format_usd
from yxanul.watch.snapshot import Snapshot, StageView

if TYPE_CHECKING:
    from rich.console import Console, Group, RenderableType
    from rich.table import Table

_SPARK = "▁▂▃▄▅▆▇█"
_SPARK_WIDTH = 24
_BAR_WIDTH = 24
_MOST_INCIDENTS = 5
_MOST_FIGURES = 6
# A running process that has not written a row for so many of its steps is told of.
_SILENT_STEPS = 20
_LEAST_SILENT_S = 60.0
_LATE_COPIES = 2
_TONES = {"pass": "green", "warn": "yellow", "extend": "yellow", "rollback": "yellow"}


def screen(
    seen: Snapshot, *, source: str, trouble: str | None = None, figures: int | None = None
) -> Group:
    """Return a look at a run, what matters most first; `source` is what the user called it.

    `trouble` says why it is an old look. `figures`: so many of the newest row's, a line for each
    incident, and none between the parts; None: all of it.
    """
    from rich.console import Group
    from rich.text import Text

    parts: list[list[RenderableType]] = [
        [Text(source, style="bold"), *_head(seen)],
        [] if trouble is None else [Text(trouble, style="yellow")],
        _cost(seen),
        [_stages(seen)],
        [_incidents(seen, is_cut=figures is not None)] if seen.incidents else [],
        [_scores(seen)] if seen.scores else [],
        [_newest(seen, figures)] if seen.newest is not None and figures != 0 else [],
    ]
    lines = [line for part in parts if part for line in (Text(), *part)]
    return Group(*(lines[1:] if figures is None else chain.from_iterable(parts)))


def screen_that_fits(
    seen: Snapshot, *, source: str, trouble: str | None = None, console: Console
) -> Group:
    """Return a look that a terminal has lines for, or the shortest there is.

    Empty lines and the ends of long ones go first, then figures of the newest row from the last.
    """
    for figures in (None, *range(_MOST_FIGURES, -1, -1)):
        found = screen(seen, source=source, trouble=trouble, figures=figures)
        if len(console.render_lines(found)) <= console.height:
            break
    return found


def _head(seen: Snapshot) -> list[RenderableType]:
    from rich.text import Text

    model = seen.config.model
    parts = [Text(f"{model.name}, {format_count(seen.parameters)} parameters; {_state(seen)}")]
    if seen.ending is not None and seen.ending.code:
        parts.append(Text(seen.ending.reason, style="red"))
        if not seen.has_ended:
            parts.append(Text("A supervisor may start it again.", style="yellow"))
    if seen.ending is None and (told := _silence(seen)) is not None:
        parts.append(Text(told, style="yellow"))
    return [*parts]


def _state(seen: Snapshot) -> str:
    if seen.is_running:
        word = "running"
    elif seen.ending is not None:
        word = seen.ending.word
    elif seen.is_mirror:
        word = "as its mirror has it; no end is recorded there"
    else:
        word = "no process of this machine trains it, and none has recorded an end"
    more = [] if seen.row_age_s is None else [f"newest row {format_duration(seen.row_age_s)} ago"]
    more += [f"started {seen.starts} times"] if seen.starts > 1 else []
    more += [f"attempt {seen.attempt}"] if seen.attempt else []
    return "; ".join((word, *more))


def _silence(seen: Snapshot) -> str | None:
    """Tell of a run that writes nothing: it scores, saves, waits, hangs, or its machine is gone."""
    if seen.newest is None or seen.row_age_s is None or not (seen.is_running or seen.is_mirror):
        return None
    usual_s = seen.newest["step_s"] * seen.config.optimization.logging.every_steps
    usual_s = max(_LEAST_SILENT_S, _SILENT_STEPS * usual_s)
    told = "it scores, saves, or hangs"
    if seen.is_mirror:
        # Rows are copied with a checkpoint.
        saving = seen.config.optimization.checkpoint
        usual_s += _LATE_COPIES * (saving.mirror_every_s + (saving.every_s or 0.0))
        told = "its machine may be gone, or cannot reach the mirror"
    if seen.row_age_s < usual_s:
        return None
    return f"no row for {format_duration(seen.row_age_s)}: {told}"


def _stages(seen: Snapshot) -> RenderableType:
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    for stage in seen.stages:
        verdict = Text(_verdict(stage), style=_TONES.get(stage.verdict or "", "red"))
        bar = ProgressBar(total=stage.total, completed=stage.done, width=_BAR_WIDTH)
        table.add_row(stage.name, bar, f"{stage.done:,}/{stage.total:,}", verdict)
    return table


def _verdict(stage: StageView) -> str:
    return "" if stage.verdict is None else f"gate: {stage.verdict}"


def _newest(seen: Snapshot, figures: int | None) -> RenderableType:
    row = seen.newest or {}
    tokens = f"{format_count(row['tokens_seen'])} of {format_count(seen.total_tokens)}"
    mfu = "" if row.get("mfu") is None else f"MFU {row['mfu']:.1%} (PaLM)"
    speeds = f"{sparkline(_numbers(seen, 'tokens_per_s'))}  {mfu}".rstrip()
    told = [
        ("tokens", tokens, f"step {row['step']:,}, {row['seq_len']:,} tokens a row"),
        ("loss", *_curve(seen, "loss", digits=3)),
        ("tokens/s", f"{row['tokens_per_s']:,.0f}", speeds),
        ("gradient norm", *_curve(seen, "grad_norm", digits=3)),
        ("learning rate", *_curve(seen, "learning_rate", digits=6)),
    ]
    if seen.memory_bytes is not None:
        told.append(("memory", format_bytes(seen.memory_bytes), "at most until now"))
    table = _grid()
    for cells in told[:figures]:
        table.add_row(*cells)
    return table


def _curve(seen: Snapshot, key: str, *, digits: int) -> tuple[str, str]:
    value = (seen.newest or {}).get(key)
    return "-" if value is None else f"{value:.{digits}f}", sparkline(_numbers(seen, key))


def _scores(seen: Snapshot) -> RenderableType:
    from rich.text import Text

    table = _grid()
    table.add_row(Text("held-out bits per byte", style="dim"), Text("first, now", style="dim"), "")
    for domain, values in seen.scores.items():
        table.add_row(domain, f"{values[0]:.3f}  {values[-1]:.3f}", sparkline(values))
    return table


def _cost(seen: Snapshot) -> list[RenderableType]:
    from rich.text import Text

    if seen.outlook is None:
        return [Text("What it will cost is known after its first rows.")]
    seconds, usd = seen.outlook.seconds, seen.outlook.usd
    price = seen.budget.usd_per_hour
    is_over = seconds.left == 0.0
    if is_over:
        told = [f"took {format_duration(seconds.spent)}"]
    else:
        low, high = format_duration(seconds.left_low), format_duration(seconds.left_high)
        left = f"to the end {format_duration(seconds.left)} ({low} to {high})"
        told = [f"spent {format_duration(seconds.spent)}; {left}"]
    if usd is not None and is_over:
        told.append(f"cost {format_usd(usd.spent)}")
    elif usd is not None and price is not None:
        told.append(
            f"{format_usd(usd.spent)} so far, {format_usd(usd.whole)} at the end, with the rest at "
            f"{format_usd(price)} an hour"
        )
    lines: list[RenderableType] = [Text("; ".join(told))]
    if seen.budget_share is not None:
        budget = [] if seen.budget.hours is None else [f"{format_hours(seen.budget.hours)} h"]
        budget += [] if seen.budget.usd is None else [format_usd(seen.budget.usd)]
        what = "that" if is_over else "the forecast"
        style = "red" if seen.budget_share > 1 else "green"
        share = f"{what} is {seen.budget_share:.0%} of the budget of {' and '.join(budget)}"
        lines.append(Text(share, style=style))
    return lines


def _incidents(seen: Snapshot, *, is_cut: bool) -> RenderableType:
    from rich.text import Text

    newest = seen.incidents[-_MOST_INCIDENTS:]
    earlier = len(seen.incidents) - len(newest)
    lines = [f"step {incident.step:,}: {incident.what}" for incident in newest]
    if earlier:
        lines.insert(0, f"{earlier} earlier incidents are in the report")
    told = "\n".join(lines)
    # A path that is longer than a line goes on in the next one, unless lines are short.
    return Text(told, style="dim", no_wrap=is_cut, overflow="ellipsis" if is_cut else "fold")


def _grid() -> Table:
    from rich.table import Table

    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(min_width=14)
    table.add_column(justify="right", no_wrap=True)
    table.add_column(no_wrap=True)
    return table


def _numbers(seen: Snapshot, key: str) -> list[float]:
    return [row[key] for row in seen.rows if row.get(key) is not None]


def sparkline(values: Sequence[float], *, width: int = _SPARK_WIDTH) -> str:
    """Return values as a line of blocks, at most `width`; several that share one are their mean."""
    if not values:
        return ""
    count = min(width, len(values))
    edges = [len(values) * at // count for at in range(count + 1)]
    means = [sum(values[a:b]) / (b - a) for a, b in pairwise(edges)]
    low, high = min(means), max(means)
    top = len(_SPARK) - 1
    scale = top / (high - low) if high > low else 0.0
    return "".join(_SPARK[round((mean - low) * scale)] for mean in means)
