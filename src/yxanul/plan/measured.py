"""A machine as `yxanul bench step --json` has measured it: the row of the table that is your own.

The one idea: the rate of a step on this machine stands for the rate of the run, so it must be a
step of the run's model in the run's precision: a narrow model reaches another share of the peak.
Several files, of several sequence lengths, give the interval.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from yxanul.cards import Card, card_of_device
from yxanul.config.schema import RunConfig
from yxanul.errors import UsageError
from yxanul.plan.flops import flops_per_token
from yxanul.plan.hardware import Assumption, Machine

_FIGURES = ("tokens_per_s", "flops_per_token", "gemm_flops", "seq_len")
_WORDS = ("device", "model", "precision")
_HOW = "write it with: yxanul bench step --model NAME --json > FILE"
_MOST_BYTES = 1 << 20
_MOST = 1e30


@dataclass(frozen=True, slots=True)
class Meant:
    """What is to be planned: its configuration, and the flags that name its model to `bench`."""

    config: RunConfig
    flags: str


def read_measured(paths: Sequence[Path], *, meant: Sequence[Meant] = ()) -> Machine:
    """Return one card or one CPU with the MFU of the updates in these files; no rent is known.

    Its peak is the table's, or the measured rate of matrix products. A file that is none of `yxanul
    bench step --json`, one of another model or precision than what is meant, or two of different
    devices, are a `UsageError`.
    """
    found = [_read(path) for path in paths]
    if len({flops_per_token(one.config.model, 1) for one in meant}) > 1:
        raise UsageError(
            "--measured is of one model, and the recipes of --compare have several; plan each alone"
        )
    for path, step in zip(paths, found, strict=True):
        for one in meant:
            _refuse_another(path, step, meant=one)
    devices = dict.fromkeys(str(step["device"]) for step in found)
    if len(devices) > 1:
        raise UsageError(
            f"--measured: the files are of several devices ({', '.join(devices)}), and a plan is "
            "for one"
        )
    device = next(iter(devices))
    # The best rate of products that was seen: a busy moment must not make the updates look better.
    products = max(float(step["gemm_flops"]) for step in found)
    card = card_of_device(device) or Card(device, "", products, None)
    shares = [
        step["tokens_per_s"] * step["flops_per_token"] / card.dense_bf16_flops for step in found
    ]
    lengths = ", ".join(f"{step['seq_len']:,}" for step in found)
    models = ", ".join(dict.fromkeys(f"{step['model']} in {step['precision']}" for step in found))
    source = f"measured on this {device} by yxanul bench step: {models} at {lengths} tokens"
    mfu = Assumption(statistics.median(shares), min(shares), max(shares), source)
    why = f"no rent of {card.name} is known; give --usd_per_gpu_hour, 0 for a machine of your own"
    return Machine(1, card, mfu, usd_per_gpu_hour=None, why_unknown=why)


def _refuse_another(path: Path, step: dict[str, Any], *, meant: Meant) -> None:
    model, wanted = meant.config.model, meant.config.optimization.compute.precision
    work = flops_per_token(model, step["seq_len"])
    is_precision_same = wanted in ("auto", step["precision"])
    if step["flops_per_token"] == work and is_precision_same:
        return
    length = meant.config.stages[0].training.seq_len_curriculum[0].seq_len
    is_told = wanted == "auto" or "compute.precision" in meant.flags
    precision = "" if is_told else f" --set compute.precision={wanted}"
    raise UsageError(
        f"--measured {path} is of {step['model']} in {step['precision']}, "
        f"{step['flops_per_token']:,} operations a token at {step['seq_len']:,} tokens, and the "
        f"plan is of {model.name} in {wanted}, {work:,} operations: its MFU would be another; "
        f"measure that: yxanul bench step {meant.flags}{precision} --seq_len {length} --json > FILE"
    )


def _read(path: Path) -> dict[str, Any]:
    """Return a measurement whose figures are positive and whose words are there."""
    try:
        with path.open("rb") as file:
            values = json.loads(file.read(_MOST_BYTES))
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(f"--measured {path} cannot be read ({error}); {_HOW}") from error
    if not isinstance(values, dict):
        raise UsageError(f"--measured {path} holds no measurement; {_HOW}")
    for name in _FIGURES:
        value = values.get(name)
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if value is None or not is_number or not 0 < value < _MOST:
            raise UsageError(f"--measured {path}: {name} is not a number above 0; {_HOW}")
    for name in _WORDS:
        if not isinstance(values.get(name), str) or not values[name]:
            raise UsageError(f"--measured {path}: {name} is not a text; {_HOW}")
    return values
