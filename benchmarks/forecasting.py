"""What a run had forecast of its own end, against its end: python -m benchmarks.forecasting RUN...

Each run has ended, was not killed and never went back. Its rows are replayed: after each share of
the tokens, the forecast of the whole wall clock as `yxanul watch` would have shown it then, its
error, and whether the interval holds what it really took.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

from yxanul.curriculum.course import read_course, read_frozen_config
from yxanul.runfolder.layout import RunFolder
from yxanul.runfolder.rows import Row, read_placed_rows
from yxanul.runfolder.spending import Payment, read_payments
from yxanul.watch.pace import Forecast, Pace

_SHARES = (0.02, 0.05, 0.1, 0.2, 0.5, 0.9)


def main() -> None:
    """Print a line for each run and share."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("runs", type=Path, nargs="+", help="Run folders.")
    print("| run | tokens | forecast, s | interval of what is left, s | took, s | error |")
    print("|---|---|---|---|---|---|")
    for run in parser.parse_args().runs:
        folder = RunFolder(run)
        took_s = _took_s(folder)
        for share, found in _forecasts(folder):
            left_s = took_s - found.spent
            held = "holds" if found.left_low <= left_s <= found.left_high else "misses"
            print(
                f"| {run.name} | {share:.0%} | {found.whole:.0f} | {found.left_low:.0f} to "
                f"{found.left_high:.0f}, {held} {left_s:.0f} | {took_s:.0f} | "
                f"{found.whole / took_s - 1:+.1%} |"
            )


def _took_s(folder: RunFolder) -> float:
    last = read_payments(folder.spending)[-1]
    if last.process:
        raise SystemExit(f"{folder.root} was begun more than once: kills are in no forecast")
    return last.seconds


def _forecasts(folder: RunFolder) -> Iterator[tuple[float, Forecast]]:
    config = read_frozen_config(folder)
    course = read_course(config, folder, attempt=0)
    names = [plan.name for plan in course]
    whole = sum(plan.tokens for plan in course)
    pace, waiting = Pace(config.model), list(_SHARES)
    for row, payment in _paid_rows(folder):
        pace.add(payment)
        if waiting and row["tokens_seen"] >= waiting[0] * whole:
            stage = names.index(row["stage"])
            found = pace.forecast(course, stage=stage, stage_step=row["stage_step"])
            share = waiting.pop(0)
            if found is not None:
                yield share, found


def _paid_rows(folder: RunFolder) -> Iterator[tuple[Row, Payment]]:
    """Yield each metric row with the payment that was written after it."""
    # Of several after a row, scores came between: the first is the row's own.
    payments = {p.tokens_spent: p for p in reversed(read_payments(folder.spending))}
    for row in read_placed_rows(folder.metrics):
        if row["attempt"]:
            raise SystemExit(f"{folder.root} has gone back: its tokens were spent twice")
        yield row, payments[row["tokens_seen"]]


if __name__ == "__main__":
    main()
