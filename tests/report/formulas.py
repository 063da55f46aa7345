"""The formulas that the page names, computed again by other code than wrote them.

But for the planner's and the forecast's, which are asked of the planner (`plan_run`, `memory`) and
of `Pace` anew and have tests of their own, the bounds of a paired change (`relative_change`), and a
date, which is written by the same line: of these the addresses are what is held.
"""

import json
import math
import re
import statistics
from datetime import datetime, timezone
from functools import lru_cache
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from tests.report.written_page import Value, resolve
from yxanul.cards import card_of_device
from yxanul.config.load import parse_config
from yxanul.curriculum.stages import plan_stages
from yxanul.curriculum.statistics.bootstrap import relative_change
from yxanul.plan.hardware import Wishes
from yxanul.plan.memory import memory
from yxanul.plan.summary import plan_run
from yxanul.runfolder.spending import read_payments
from yxanul.watch.pace import Pace

Z = 1.959963984540054


def recompute(root: Path, value: Value) -> Any:
    """Compute a value again from what its addresses hold."""
    if value.how == "file":
        return (root / value.sources[0].rstrip("#")).read_text(encoding="utf-8")
    if value.how == "memory":
        return planned_memory(root)
    if value.how == "spent":
        # Of one run among several the folder's name stands before the file's.
        return seconds_of_steps(root / unquote(value.sources[0].partition("metrics.jsonl")[0]))
    if value.how == "trained":
        return seconds_of_rows(root / unquote(value.sources[0].partition("spending.jsonl")[0]))
    if value.how in OF_PLAN:
        return OF_PLAN[value.how](planned_bill(root), root, value.sources)
    if value.how == "off forecast":
        wall = sum(resolve(root, source) for source in value.sources[:-3])
        return wall / forecast_at(root, value.sources[-3]) - 1
    if value.how == "forecast":
        return forecast_at(root, value.sources[0])
    if value.how in OF_ADDRESSES:
        return OF_ADDRESSES[value.how](*value.sources)
    held = [resolve(root, source) for source in value.sources]
    if value.how == "dirty":
        task = last_key(value.sources[1])
        return len({found["item"] for found in held[0] if found["task"] == task})
    return (OF_VALUES | OF_LISTS)[value.how](*held)


def last_key(source: str) -> str:
    """Return the name of the value at an address."""
    last = source.rpartition("/")[2]
    return unquote(last).replace("~1", "/").replace("~0", "~")


def mean_gain(*held: float) -> float:
    """Average over pairs of (later, earlier)."""
    pairs = list(zip(held[::2], held[1::2], strict=True))
    return sum(1 - later / earlier for later, earlier in pairs) / len(pairs)


def date(seconds: float) -> str:
    """Write a moment as the page does."""
    return datetime.fromtimestamp(seconds, tz=timezone.utc).strftime("%Y-%m-%d %H:%M UTC")


def wilson_ends(items: list[float]) -> tuple[float, float]:
    """Solve (rate - p)^2 = z^2 p (1 - p) / n for p, which is what Wilson's interval is."""
    rate, z2 = sum(items) / len(items), Z**2 / len(items)
    a, b, c = 1 + z2, -(2 * rate + z2), rate * rate
    root = math.sqrt(max(0.0, b * b - 4 * a * c))
    return (-b - root) / (2 * a), (-b + root) / (2 * a)


def parameters(model: dict) -> int:
    """Count the Gemma block's learned numbers by hand: tied embedding, no biases."""
    width = model["hidden_size"]
    queries = model["num_attention_heads"] * model["head_dim"]
    keys = model["num_key_value_heads"] * model["head_dim"]
    layer = 2 * width * queries + 2 * width * keys + 3 * width * model["intermediate_size"]
    layers = model["num_hidden_layers"] * (layer + 2 * width)
    return model["vocab_size"] * width + layers + width


def forecast_at(root: Path, source: str) -> float:
    """Let a look at the run have come when its spending ended with the row of an address."""
    line = int(re.fullmatch(r"spending\.jsonl:(\d+)#/seconds", source)[1])
    config = settings_of(root)
    course, pace = plan_stages(config), Pace(config.model)
    payments = read_payments(root / "spending.jsonl")[:line]
    for payment in payments:
        pace.add(payment)
    steps = [plan.config.training.batch_tokens for plan in course for _ in range(plan.total_steps)]
    trained = list(accumulate(steps)).index(payments[-1].tokens_spent) + 1
    stage = max(plan.index for plan in course if plan.first_step < trained)
    done = trained - course[stage].first_step
    return pace.forecast(course, stage=stage, stage_step=done).whole


def planned_memory(root: Path) -> int:
    """Plan the memory as `yxanul plan` does."""
    environment = json.loads((root / "environment.json").read_text())
    return memory(settings_of(root), processes=environment.get("world_size", 1)).total


def planned_bill(root: Path):
    """Plan the whole run as `yxanul plan --gpus` does."""
    environment = json.loads((root / "environment.json").read_text())
    gpus = f"{environment.get('world_size', 1)}x{card_of_device(environment['device']).name}"
    return plan_run(settings_of(root), Wishes(gpus=gpus)).bill


OF_PLAN = {
    "planned dollars": lambda bill, root, where: bill.total.hours.value * resolve(root, where[-1]),
    "planned least": lambda bill, *_: 3600 * bill.total.hours.low,
    "planned most": lambda bill, *_: 3600 * bill.total.hours.high,
    "planned rate": lambda bill, *_: bill.tokens_per_s,
    "planned seconds": lambda bill, *_: 3600 * bill.total.hours.value,
}


def settings_of(root: Path):
    return _settings((root / "config.yaml").read_text())


@lru_cache(maxsize=64)
def _settings(text: str):
    return parse_config(text, "config.yaml")


def tokens_before(step: int, stages: list[dict]) -> int:
    """Add up the tokens of the first `step` steps, each as large as its stage says."""
    plans = [stage["training"] for stage in stages]
    steps = [
        p["batch_tokens"] for p in plans for _ in range(p["total_tokens"] // p["batch_tokens"])
    ]
    return sum(steps[:step])


def seconds_of_steps(root: Path) -> float:
    """Give every step the seconds of the next logged row of its attempt, and sum."""
    rows = [json.loads(line) for line in (root / "metrics.jsonl").read_text().splitlines()]
    total = 0.0
    for attempt in {row["attempt"] for row in rows}:
        own = [row for row in rows if row["attempt"] == attempt]
        first = own[0]["step"] - own[0]["stage_step"]
        for step in range(first + 1, own[-1]["step"] + 1):
            total += next(row["step_s"] for row in own if row["step"] >= step)
    return total


def seconds_of_rows(root: Path) -> float:
    """Sum what lies between rows of one process and one sequence length, without scores.

    The recorded runs change the length with their processes only.
    """
    payments = read_payments(root / "spending.jsonl")
    pairs = [(a, b) for a, b in pairwise(payments) if a.process == b.process]
    assert all(a.seq_len == b.seq_len and a.tokens_spent < b.tokens_spent for a, b in pairs)
    return sum(b.seconds - a.seconds - (b.scoring_s - a.scoring_s) for a, b in pairs)


OF_ADDRESSES = {
    "attempt": lambda source: int(re.search(r"/step-\d+-a(\d+)-", source)[1]),
    "key": last_key,
    "named": lambda source: int(re.search(r"/step-(\d+)-a\d+[-/]", source)[1]),
}
OF_VALUES = {
    "": lambda value: value,
    "change": lambda later, earlier: later / earlier - 1,
    "count": lambda *held: len(held),
    "date": date,
    "dollars": lambda *held: sum(s / 3600 * p for s, p in zip(held[::2], held[1::2], strict=True)),
    "gain": lambda later, earlier: 1 - later / earlier,
    "length": len,
    "mean gain": mean_gain,
    "median": lambda column: statistics.median(v for v in column if v is not None),
    "own tokens": lambda seen, begun, stages: seen - tokens_before(begun, stages),
    "parameters": parameters,
    "since": lambda now, begun: now - begun,
    "spent tokens": lambda before, now, start: before + now - start,
    "sum": lambda *held: sum(held),
    "whole steps": lambda tokens, batch: tokens // batch,
}
OF_LISTS = {
    "bits per byte": lambda nats, size: sum(nats) / sum(size) / math.log(2),
    "detectable": lambda items: 2.8 * (max(ends := wilson_ends(items)) - min(ends)) / 2 / Z,
    "difference": lambda now, then: sum(now) / len(now) - sum(then) / len(then),
    "distinct": lambda names: len(set(names)),
    "gold change": lambda nats, size, before, size_before: (
        (sum(nats) / sum(size)) / (sum(before) / sum(size_before)) - 1
    ),
    "mean": lambda items: sum(items) / len(items),
    "paired change": lambda after, before: sum(after) / sum(before) - 1,
    "paired high": lambda after, before: relative_change(before, after).high,
    "paired low": lambda after, before: relative_change(before, after).low,
    "perplexity": lambda nats, tokens: math.exp(sum(nats) / sum(tokens)),
    "wilson high": lambda items: max(wilson_ends(items)),
    "wilson low": lambda items: max(0.0, min(wilson_ends(items))),
}
