"""A machine as `yxanul bench step --json` has measured it: the row of the table that is your own.

The one idea: the rate of a step on this machine stands for the rate of the run, so it must be a
step of the run's model in the run's settings: a narrow model reaches another share of the peak, and
so do another optimizer, other threads and recomputed blocks.
A run pays the step of the optimizer once an update, however many passes that has. Several files, of
several sequence lengths, give the interval.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from yxanul.cards import Card, card_of_device
from yxanul.config.schema import RunConfig
from yxanul.errors import UsageError
from yxanul.plan.flops import flops_per_token
from yxanul.plan.hardware import Own, TimedUpdate

_FIGURES = (
    "tokens_per_s",
    "flops_per_token",
    "gemm_flops",
    "seq_len",
    "micro_batch",
    "optimizer_s",
)
_WORDS = ("device", "model", "precision")
_HOW = (
    "write it with: yxanul bench step --config_dir DIR --model NAME --json > FILE, and with every "
    "--set of the plan"
)
_OPEN: frozenset[str | int | None] = frozenset(("auto", None))
"""What a setting says that the machine is to choose."""
_MOST_BYTES = 1 << 20
_MOST = 1e30


@dataclass(frozen=True, slots=True)
class Meant:
    """What is to be planned: its configuration, and the flags that name its model to `bench`."""

    config: RunConfig
    flags: str


def read_measured(paths: Sequence[Path], *, meant: Sequence[Meant] = ()) -> Own:
    """Return one card or one CPU with the updates that these files tell of.

    Its peak is the table's, or the measured rate of matrix products. A file that is none of `yxanul
    bench step --json`, one of another model or other settings than what is meant, or two of
    different devices, are a `UsageError`.
    """
    found = [_read(path) for path in paths]
    if meant:
        _refuse_several(found, meant)
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
    lengths = ", ".join(f"{step['seq_len']:,}" for step in found)
    models = ", ".join(dict.fromkeys(f"{step['model']} in {step['precision']}" for step in found))
    updates = zip(paths, found, strict=True)
    return Own(
        card=card_of_device(device) or Card(device, "", products, None),
        updates=tuple(_timed_update(path, step) for path, step in updates),
        source=f"measured on this {device} by yxanul bench step: {models} at {lengths} tokens",
        precision=str(found[0]["precision"]),
        is_cpu=found[0].get("peak_bytes") is None,  # which an allocator of a card tells
    )


def _timed_update(path: Path, step: dict[str, Any]) -> TimedUpdate:
    """Take apart what was one pass and one step of the optimizer."""
    tokens = step["micro_batch"] * step["seq_len"]
    passes_s = tokens / step["tokens_per_s"] - step["optimizer_s"]
    if passes_s <= 0:
        raise UsageError(
            f"--measured {path}: optimizer_s is not below what a whole update of {tokens:,} tokens "
            f"takes; {_HOW}"
        )
    return TimedUpdate(step["flops_per_token"], passes_s / tokens, step["optimizer_s"])


def _refuse_several(found: Sequence[dict[str, Any]], meant: Sequence[Meant]) -> None:
    """Refuse recipes that no one step can be of: whichever is measured, another would refuse it."""
    several = ["models"] if len({flops_per_token(one.config.model, 1) for one in meant}) > 1 else []
    for step in found:
        asked = [_asked(step, one.config) for one in meant]
        several += [key for key in asked[0] if len({one[key] for one in asked} - _OPEN) > 1]
    if several:
        raise UsageError(
            "--measured is of one model in one run's settings, and the recipes of --compare have "
            f"several ({', '.join(dict.fromkeys(several))}); plan each alone"
        )


def _refuse_another(path: Path, step: dict[str, Any], *, meant: Meant) -> None:
    model, wanted = meant.config.model, meant.config.optimization.compute.precision
    work = flops_per_token(model, step["seq_len"])
    is_precision_same = wanted in ("auto", step["precision"])
    others = _other_settings(step, meant.config)
    if step["flops_per_token"] == work and is_precision_same and not others:
        return
    length = meant.config.stages[0].training.seq_len_curriculum[0].seq_len
    is_told = wanted == "auto" or "compute.precision" in meant.flags
    precision = "" if is_told else f" --set compute.precision={wanted}"
    raise UsageError(
        f"--measured {path} is of {step['model']} in {step['precision']}, "
        f"{step['flops_per_token']:,} operations a token at {step['seq_len']:,} tokens, and the "
        f"plan is of {model.name} in {wanted}, {work:,} operations{others}: its MFU would be "
        "another; "
        f"measure that: yxanul bench step {meant.flags}{precision} --seq_len {length} --json > FILE"
    )


def _other_settings(step: dict[str, Any], config: RunConfig) -> str:
    """Say in which settings a step was not what the configuration asks for; "" = in none.

    What an older version did not write is not what is asked for, either.
    """
    asked = _asked(step, config)
    del asked["precision"]  # which is told with the model
    other = [key for key, want in asked.items() if want not in _OPEN and want != step.get(key)]
    return "".join(f", {key} {asked[key]} (there {step.get(key, 'not told')})" for key in other)


def _asked(step: dict[str, Any], config: RunConfig) -> dict[str, str | int | None]:
    """Return the settings that a configuration asks of a step, by their names in its file."""
    compute = config.optimization.compute
    asked: dict[str, str | int | None] = {
        "precision": compute.precision,
        "optimizer": config.optimization.optimizer.name,
        "attention": compute.attention,
        "compiled": compute.compile,
        "fp8": compute.fp8,
        "checkpointed_blocks": None
        if compute.is_share_open
        else compute.checkpointed_blocks(config.model.num_hidden_layers),
    }
    if step.get("peak_bytes") is None:  # on a card they do next to nothing
        asked["threads"] = compute.threads
    return asked


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
