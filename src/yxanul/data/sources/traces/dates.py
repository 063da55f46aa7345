"""Traces of the calendar: weekdays, leap years, working days."""

import calendar
from datetime import date, timedelta

from yxanul.data.sources.traces.trace import Item, Phrasing, Trace

WEEKDAYS = tuple(calendar.day_name)
MONTHS = tuple(calendar.month_name)
ORDINALS = {"first": 0, "second": 1, "third": 2, "fourth": 3, "last": -1}


def calendar_arithmetic(item: Item, say: Phrasing) -> Trace | None:
    """Solve one of the family's tasks; None for a kind that is not known here."""
    solve = {
        "weekday_offset": _weekday_offset,
        "weekday_of_date": _weekday_of_date,
        "weekday_of_date_from_first_date": _weekday_from_first,
        "recurring_event_day": _recurring_event,
        "count_days": _count_weekday,
        "count_business_days": _count_business_days,
        "is_leap_year": _is_leap_year,
    }.get(item["metadata"]["task"])
    return None if solve is None else solve(item, say)


def _weekday_offset(item: Item, say: Phrasing) -> Trace:
    start = date.fromisoformat(item["metadata"]["start_date"])
    offset = item["metadata"]["offset_days"]
    days, weekday = abs(offset), WEEKDAYS[start.weekday()]
    when = f"{days} day{'' if days == 1 else 's'}"
    if offset > 0:
        question = say.pick(
            f"Today is {weekday}, {_day(start)}. What weekday will it be in {when}?",
            f"Which weekday comes {when} after {weekday}, {_day(start)}?",
        )
    else:
        question = say.pick(
            f"Today is {weekday}, {_day(start)}. What weekday was it {when} ago?",
            f"Which weekday came {when} before {weekday}, {_day(start)}?",
        )
    steps, answer = _step_weekday(weekday, offset)
    return Trace(question, steps, answer)


def _weekday_from_first(item: Item, say: Phrasing) -> Trace:
    facts = item["metadata"]
    target, first = date.fromisoformat(facts["target_date"]), facts["first_day"]
    named = f"{target.day} {MONTHS[target.month]}"
    question = say.pick(
        f"In a year that is not a leap year, 1 January is a {first}. What weekday is {named}?",
        f"1 January of a common year falls on a {first}. On which weekday does {named} fall?",
    )
    counted, offset = _days_since_new_year(target)
    steps, answer = _step_weekday(first, offset)
    return Trace(question, f"{counted}\n{steps}", answer)


def _weekday_of_date(item: Item, say: Phrasing) -> Trace:
    target = date.fromisoformat(item["metadata"]["target_date"])
    first = WEEKDAYS[date(target.year, 1, 1).weekday()]
    question = say.pick(
        f"What day of the week was {_day(target)}?", f"On which weekday did {_day(target)} fall?"
    )
    known = f"1 January {target.year} was a {first}."
    counted, offset = _days_since_new_year(target)
    if offset == 0:
        return Trace(question, known, first)
    steps, answer = _step_weekday(first, offset)
    return Trace(question, f"{known}\n{counted}\n{steps}", answer)


def _recurring_event(item: Item, say: Phrasing) -> Trace | None:
    facts = item["metadata"]
    year, month, ordinal, weekday = (facts[key] for key in ("year", "month", "ordinal", "weekday"))
    question = say.pick(
        f"On which day of the month does the {ordinal} {weekday} of {MONTHS[month]} {year} fall?",
        f"A meeting is held on the {ordinal} {weekday} of {MONTHS[month]} {year}. "
        f"On which day of the month is that?",
    )
    length = calendar.monthrange(year, month)[1]
    opening = date(year, month, 1).weekday()
    ahead = (WEEKDAYS.index(weekday) - opening) % 7
    days = list(range(1 + ahead, length + 1, 7))
    answer = days[ORDINALS[ordinal]]
    steps = (
        f"1 {MONTHS[month]} {year} is a {WEEKDAYS[opening]}; the first {weekday} is {ahead} "
        f"day{'' if ahead == 1 else 's'} later, on day {days[0]}.\n"
        f"{MONTHS[month]} has {length} days, so the {weekday}s are {', '.join(map(str, days))}.\n"
        f"The {ordinal} of these is {answer}."
    )
    return Trace(question, steps, str(answer))


def _count_weekday(item: Item, say: Phrasing) -> Trace | None:
    start, end = _range(item)
    named = [name for name in WEEKDAYS if f"{name}s are" in item["question"]]
    named += [name for name in WEEKDAYS if f"occurrences of {name} " in item["question"]]
    named += [name for name in WEEKDAYS if f"does {name} occur" in item["question"]]
    if len(named) != 1:
        return None
    weekday = named[0]
    question = say.pick(
        f"How many {weekday}s are there from {_full(start)} to {_full(end)}, both included?",
        f"Count the {weekday}s from {_full(start)} to {_full(end)} (both days count).",
    )
    days = (end - start).days + 1
    ahead = (WEEKDAYS.index(weekday) - start.weekday()) % 7
    first = start + timedelta(days=ahead)
    found = [first + timedelta(days=7 * k) for k in range(days) if ahead + 7 * k < days]
    if found:
        listed = ", ".join(f"{day.day} {MONTHS[day.month]}" for day in found)
        steps = f"The first {weekday} is {_day(first)}; then every 7 days: {listed}."
    else:
        steps = f"The first {weekday} would be {_day(first)}, which is after {_day(end)}."
    return Trace(question, f"{steps}\nThat is {len(found)}.", str(len(found)))


def _count_business_days(item: Item, say: Phrasing) -> Trace:
    start, end = _range(item)
    question = say.pick(
        f"How many days from Monday to Friday are there from {_full(start)} to {_full(end)}, "
        f"both included?",
        f"Count the business days (Monday to Friday) from {_full(start)} to {_full(end)}, "
        f"both included.",
    )
    days = (end - start).days + 1
    weeks, rest = divmod(days, 7)
    tail = [WEEKDAYS[(start.weekday() + i) % 7] for i in range(rest)]
    working = sum(name not in ("Saturday", "Sunday") for name in tail)
    lines = [f"The range has {days} days = {weeks} x 7 + {rest}."]
    lines.append(f"{weeks} whole weeks have {weeks} x 5 = {weeks * 5} business days.")
    if rest:
        lines.append(f"The other days are {', '.join(tail)}: {working} business days.")
    lines.append(f"Together {weeks * 5} + {working} = {weeks * 5 + working}.")
    return Trace(question, "\n".join(lines), str(weeks * 5 + working))


def _is_leap_year(item: Item, say: Phrasing) -> Trace:
    year = item["metadata"]["year"]
    question = say.pick(f"Is {year} a leap year?", f"Does the year {year} have a 29 February?")
    lines = [f"{year} = {year // 4} x 4 + {year % 4}."]
    leap = year % 4 == 0
    if not leap:
        lines.append(f"{year} is not divisible by 4, so it is not a leap year.")
    elif year % 100:
        lines.append(f"{year} is divisible by 4 and not by 100, so it is a leap year.")
    else:
        leap = year % 400 == 0
        lines.append(f"{year} is divisible by 100, so it must be divisible by 400.")
        lines.append(f"{year} = {year // 400} x 400 + {year % 400}: it is{'' if leap else ' not'}.")
    return Trace(question, "\n".join(lines), "Yes" if leap else "No")


def _step_weekday(weekday: str, offset: int) -> tuple[str, str]:
    """Return the sentences that carry a weekday over `offset` days, and the weekday reached."""
    days = abs(offset)
    weeks, rest = divmod(days, 7)
    direction = "after" if offset > 0 else "before"
    answer = WEEKDAYS[(WEEKDAYS.index(weekday) + offset) % 7]
    line = f"{days} = {weeks} x 7 + {rest}, and whole weeks do not change the weekday."
    if rest == 0:
        return f"{line}\nThe weekday stays {answer}.", answer
    step = 1 if offset > 0 else -1
    passed = [WEEKDAYS[(WEEKDAYS.index(weekday) + step * k) % 7] for k in range(1, rest + 1)]
    return f"{line}\n{rest} {direction} {weekday}: {', '.join(passed)}.", answer


def _days_since_new_year(target: date) -> tuple[str, int]:
    """Return the sentence that counts the days after 1 January, and their number."""
    offset = (target - date(target.year, 1, 1)).days
    lengths = [calendar.monthrange(target.year, month)[1] for month in range(1, target.month)]
    parts = [str(length) for length in lengths] + [str(target.day - 1)]
    total = " + ".join(parts)
    months = "" if not lengths else " (whole months, then days)"
    shown = f"{total} = {offset}" if lengths else str(offset)
    return f"Days after 1 January{months}: {shown}.", offset


def _range(item: Item) -> tuple[date, date]:
    facts = item["metadata"]
    return date.fromisoformat(facts["start_date"]), date.fromisoformat(facts["end_date"])


def _day(day: date) -> str:
    return f"{day.day} {MONTHS[day.month]} {day.year}"


def _full(day: date) -> str:
    return f"{WEEKDAYS[day.weekday()]}, {_day(day)}"
