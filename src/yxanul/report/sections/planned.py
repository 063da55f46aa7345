"""What was planned of a run, beside what came of it: steps, time, dollars, memory, use of the card.

The one idea: a plan is judged by the run it was made for. The forecast is the one after a tenth of
the tokens, made again from the rows that stood there then. Hours, tokens/s and dollars are those
that `yxanul plan` tells for the run's machine; where rows are of several machines, none is. Memory
is that of the newest process that trained, whose settings and machine stand there.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import groupby

from yxanul.cards import card_of_device
from yxanul.curriculum.stages import StagePlan
from yxanul.plan.cost import Bill, bill
from yxanul.plan.hardware import Assumption, machine
from yxanul.plan.memory import memory
from yxanul.report.reading.course import is_over, planned_stages, trained_seconds
from yxanul.report.reading.gather import Run
from yxanul.report.reading.records import Record
from yxanul.report.reading.traced import Cited, Story, Traced
from yxanul.report.sections.cost import cost
from yxanul.report.sections.incidents import machines
from yxanul.report.sections.summary import median_speed
from yxanul.runfolder.spending import parse_payment
from yxanul.units import HOUR_S
from yxanul.watch.pace import Pace

_FORECAST_AFTER = 0.1  # of the tokens
_MOST_CARDS = 99_999  # that --gpus takes


@dataclass(frozen=True)
class Line:
    """One figure; None = not known."""

    name: Story
    planned: Traced | Cited | None
    measured: Traced | None
    note: Story


def planned_lines(run: Run) -> tuple[Line, ...]:
    """Return the figures that were planned.

    None where this version cannot read the settings, or they plan nothing after where it began.
    """
    if not planned_stages(run):
        return ()
    of_one = () if _has_moved(run) else (*_planner(run), *_mfu(run))
    return (*_steps(run), *_wall_clock(run), *_memory(run), *of_one)


def left_out(run: Run) -> Story:
    """Say what of the plan cannot be held against the run, and why; nothing where all can."""
    if not planned_stages(run):
        return ()
    if _has_moved(run):
        told: list[str | Traced] = ["This run was on several machines ("]
        for index, name in enumerate(machines(run)):
            told += [", then " if index else "", name]
        return (
            *told,
            "), and no row of metrics.jsonl tells which of them it is of: what the planner says "
            "of time, speed and dollars is left out, and so is the MFU.",
        )
    if _bill(run) is None:
        return (
            "What the planner says of time, speed and dollars is left out: it assumes no MFU for "
            "this machine.",
        )
    spent = cost(run)
    if spent is not None and spent.price is None and spent.usd is not None:
        return (
            "What the planner says of dollars is left out: not all of the run was paid at one "
            "price of an hour.",
        )
    return ()


def _has_moved(run: Run) -> bool:
    return len(machines(run)) > 1


def _steps(run: Run) -> list[Line]:
    return [_stage_steps(run, plan) for plan in planned_stages(run)]


def _stage_steps(run: Run, plan: StagePlan) -> Line:
    assert run.config is not None
    place = ("stages", plan.index, "training")
    where = tuple(run.config.source(*place, key) for key in ("total_tokens", "batch_tokens"))
    steps = Traced(plan.base_steps, where, "whole steps")
    own = [row for row in run.metrics if row.find("stage") == plan.name and run.belongs(row)]
    done = own[-1].number("stage_step") if own else None
    note: Story = () if is_over(run, plan.name) else ("not over yet" if own else "not begun",)
    name = run.config.text("stages", plan.index, "name")
    return Line(
        name=("steps of ", name or plan.name),
        planned=steps,
        measured=done,
        note=note,
    )


def _wall_clock(run: Run) -> list[Line]:
    forecast, spent = _forecast(run), cost(run)
    if forecast is None or spent is None:
        return []
    note: Story = ("the run is not over",)
    if is_over(run, run.course[-1].name):
        share = spent.wall.number / forecast.number - 1
        where = (*spent.wall.sources, *forecast.sources)
        note = (Traced(share, where, "off forecast", "change"), " against the forecast")
    if spent.starts.number > 1 or len(run.attempts) > 1:
        note = (*note, "; restarts and rollbacks are not foreseen")
    name = ("wall clock, forecast after a tenth of the tokens",)
    return [Line(name, forecast.shown_as("duration"), spent.wall, note)]


def _forecast(run: Run) -> Traced | None:
    """Return the seconds of the whole run as they were forecast after a tenth of its tokens.

    None where the run has not come so far, or had gone back before.
    """
    assert run.settings is not None
    wanted = _FORECAST_AFTER * sum(plan.tokens for plan in planned_stages(run))
    pace = Pace(run.settings.model)
    for row in run.spending:
        payment = parse_payment(row.values, place=f"{row.path}, line {row.line}")
        pace.add(payment)
        if payment.tokens_spent >= wanted:
            return _forecast_at(run, row, tokens=payment.tokens_spent, pace=pace)
    return None


def _forecast_at(run: Run, row: Record, *, tokens: int, pace: Pace) -> Traced | None:
    went_back = any(0 < attempt.need_count("tokens_spent") <= tokens for attempt in run.attempts)
    course = planned_stages(run)
    seen = course[0].first_token + tokens
    plan = next((plan for plan in course if seen <= plan.first_token + plan.tokens), None)
    if went_back or plan is None or run.config is None:
        return None
    done = (seen - plan.first_token) // plan.config.training.batch_tokens
    found = pace.forecast(course, stage=course.index(plan), stage_step=done)
    if found is None:
        return None
    where = (row.source("seconds"), run.config.source("stages"), run.config.source("model"))
    return Traced(found.whole, where, "forecast")


def _memory(run: Run) -> list[Line]:
    assert run.settings is not None
    assert run.config is not None
    # Processes before it had settings and machines of their own.
    rows = _newest_that_trained(run)
    held = [v for row in rows if (v := row.number("memory_bytes")) is not None]
    if not held:
        return []
    where = [run.config.source(key) for key in ("model", "optimization", "stages")]
    processes = run.environment.number("world_size") if run.environment is not None else None
    where += () if processes is None else processes.sources
    need = memory(run.settings, processes=_processes(run)).total
    planned = Traced(need, tuple(where), "memory", "bytes")
    most = max(held, key=lambda value: value.number).shown_as("bytes")
    more = "scores and skills" if _on_a_card(run) else "Python, torch, data, scores and skills"
    newest = "of the newest process that trained; " if len(rows) < len(run.spending) else ""
    note: Story = (f"{newest}planned without {more}, of the stage that needs most",)
    return [Line(("memory of the main process",), planned, most, note)]


def _newest_that_trained(run: Run) -> list[Record]:
    """Return the rows of the newest process that trained: a later one may only have scored.

    It may begin, and end, below the one before: what that trained after its last checkpoint is
    trained again.
    """
    found: list[Record] = []
    most = 0
    for _, own in groupby(run.spending, lambda row: row.find("process")):
        rows = list(own)
        first, last = (row.need_count("tokens_spent") for row in (rows[0], rows[-1]))
        if last > min(first, most):
            found = rows
        most = max(most, last)
    return found


def _planner(run: Run) -> list[Line]:
    """Hold the run against what `yxanul plan --gpus` says of its machine."""
    planned = _bill(run)
    if planned is None or planned.total.hours is None or planned.tokens_per_s is None:
        return []
    where, spent = _bill_sources(run), cost(run)
    hours, usd = planned.total.hours, planned.total.usd
    seconds, least, most = (
        Traced(HOUR_S * value, where, how, "duration")
        for value, how in (
            (hours.value, "planned seconds"),
            (hours.low, "planned least"),
            (hours.high, "planned most"),
        )
    )
    took, speed = trained_seconds(run), median_speed(run, "tokens_per_s")
    going_on = "" if is_over(run, run.course[-1].name) else "the run is not over; "
    note: Story = ("planned ", least, " to ", most, f"; {going_on}")
    counted = "abandoned attempts are counted in, " if len(run.attempts) > 1 else ""
    again = f"{counted}what precedes a start's first row is not{'' if counted else ' counted'}"
    rate = Traced(planned.tokens_per_s, where, "planned rate", "whole")
    lines = [
        Line(("training time",), seconds, took and took.shown_as("duration"), (*note, again)),
        Line(("tokens/s",), rate, speed and speed.shown_as("whole"), ("measured is the median",)),
    ]
    if usd is not None and spent is not None and spent.price is not None:
        paid = Traced(usd.value, (*where, *spent.price.sources), "planned dollars", "usd")
        told = ("planned is training alone, measured all of the wall clock",)
        lines.append(Line(("dollars",), paid, spent.usd, told))
    return lines


def _bill(run: Run) -> Bill | None:
    """Return the planner's bill of the run's machine at the run's price; None: it has no MFU."""
    name = run.environment.find("device") if run.environment is not None else None
    card, count = card_of_device(str(name)), _processes(run)
    if card is None or run.settings is None or not 0 < count <= _MOST_CARDS:
        return None
    found, spent = machine(run.settings, f"{count}x{card.name}"), cost(run)
    if found.mfu is None:
        return None
    rent = None
    if spent is not None and spent.price is not None:
        each = spent.price.number / count
        rent = Assumption(each, each, each, "the run's own price")
    stages = tuple(plan.config for plan in planned_stages(run))
    return bill(run.settings.model, stages, machine=replace(found, usd_per_gpu_hour=rent))


def _bill_sources(run: Run) -> tuple[str, ...]:
    assert run.config is not None
    assert run.environment is not None
    parts = [run.config.source(key) for key in ("model", "optimization", "stages")]
    parts.append(run.environment.source("device"))
    size = run.environment.number("world_size")
    return (*parts, *(() if size is None else size.sources))


def _processes(run: Run) -> int:
    """Return how many processes trained, each on a card of its own; an older run had one."""
    size = run.environment.number("world_size") if run.environment is not None else None
    return 1 if size is None else int(size.number)


def _mfu(run: Run) -> list[Line]:
    reached = median_speed(run, "mfu")
    if reached is None:
        return []
    reached, name = reached.shown_as("share"), ("MFU, PaLM convention",)
    planned = _bill(run)
    mfu = None if planned is None else planned.machine.mfu
    if mfu is None:
        why = ("the plan assumes none for this machine; measured is the median",)
        return [Line(name, None, reached, why)]
    told = f"{100 * mfu.value:.0f} % ({100 * mfu.low:.0f} to {100 * mfu.high:.0f})"
    return [Line(name, Cited(told, mfu.source), reached, ("measured is the median",))]


def _on_a_card(run: Run) -> bool:
    return run.environment is not None and run.environment.find("device_type") == "cuda"
