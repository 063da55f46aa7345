"""A DeepSpeed JSON beside the YAML: what it leaves `auto` is filled, what contradicts is refused.

The YAML is the truth. The JSON may repeat it, leave it to it ("auto", or nothing), and set how ZeRO
sends its buckets; any other key would change the run behind the YAML's back and is refused.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from yxanul.config.optimization import OptimizationConfig
from yxanul.errors import ConfigError

# How DeepSpeed sends and cuts: nothing that the YAML has a word for.
_FREE = frozenset(
    {
        "steps_per_print",
        "wall_clock_breakdown",
        "zero_optimization.allgather_bucket_size",
        "zero_optimization.allgather_partitions",
        "zero_optimization.contiguous_gradients",
        "zero_optimization.overlap_comm",
        "zero_optimization.reduce_bucket_size",
        "zero_optimization.reduce_scatter",
        "zero_optimization.round_robin_gradients",
    }
)
_BATCH = ("train_batch_size", "train_micro_batch_size_per_gpu", "gradient_accumulation_steps")
# Numbers, which DeepSpeed holds in fp32 through every backward pass, and once more while they are
# exchanged. Its own 500 million are 2 GB, in no plan and no first start's trial of a card; twice
# 0.1 GB are within what those leave over, and far more than the 25 MiB at which DDP exchanges.
_REDUCE_BUCKET = 25_000_000
_SILENT = 10**9  # steps between the lines that DeepSpeed prints by itself


def read_deepspeed(optimization: OptimizationConfig, *, precision: str) -> dict[str, Any]:
    """Return the settings that DeepSpeed is started with, from compute.deepspeed_config or without.

    precision is bf16 or fp32, as chosen. A file that cannot be read, is no JSON object, or
    contradicts the YAML is a `ConfigError` with a sentence for each contradiction.
    """
    name = optimization.compute.deepspeed_config
    given = {} if name is None else _read(Path(name))
    flat = dict(_flatten(given))
    problems = list(_problems(flat, _wanted(optimization, precision)))
    if problems:
        raise ConfigError(f"{name}: {'; '.join(problems)}")
    settings: dict[str, Any] = {
        # Rows change with seq_len, and the run itself says which micro-batch is an update's last.
        "train_micro_batch_size_per_gpu": 1,
        "gradient_accumulation_steps": 1,
        "gradient_clipping": optimization.optimizer.max_grad_norm,
        # The weights stay fp32 and are rounded where they are multiplied.
        "bf16": {"enabled": False},
        "zero_optimization": {"stage": 1, "reduce_bucket_size": _REDUCE_BUCKET},
        "steps_per_print": _SILENT,
    }
    for path, value in flat.items():
        if path in _FREE and value != "auto":
            *above, last = path.split(".")
            place = settings[above[0]] if above else settings
            place[last] = value
    return settings


def _read(path: Path) -> dict[str, Any]:
    try:
        given = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(
            f"--deepspeed {path}: it cannot be read ({error.strerror}); name a DeepSpeed JSON file"
        ) from error
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"--deepspeed {path}: it is no JSON ({error}); mend it") from error
    if not isinstance(given, dict):
        raise ConfigError(f"--deepspeed {path}: it is no JSON object; write one, {{}} at least")
    return given


def _flatten(given: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in given.items():
        if isinstance(value, dict):
            yield from _flatten(value, f"{above}{key}.")
        else:
            yield f"{above}{key}", value


def _wanted(optimization: OptimizationConfig, precision: str) -> dict[str, tuple[Any, str]]:
    """Return {path in the JSON: what it must be, and where the YAML says so}."""
    adamw = optimization.optimizer
    is_bf16 = precision == "bf16"
    return {
        "bf16.enabled": (is_bf16, f"compute.precision is {precision}"),
        "fp16.enabled": (False, "this program trains in bf16 or fp32"),
        "zero_optimization.stage": (1, "the engine shares the optimizer's state, which is stage 1"),
        "gradient_clipping": (adamw.max_grad_norm, "optimizer.max_grad_norm"),
        "optimizer.type": ("AdamW", "optimizer.name is adamw"),
        "optimizer.params.betas": ([adamw.beta1, adamw.beta2], "optimizer.beta1 and beta2"),
        "optimizer.params.eps": (adamw.eps, "optimizer.eps"),
        "optimizer.params.weight_decay": (adamw.weight_decay, "optimizer.weight_decay"),
    }


def _problems(flat: Mapping[str, Any], wanted: Mapping[str, tuple[Any, str]]) -> Iterator[str]:
    for path, value in flat.items():
        if path in _FREE or value == "auto":
            continue
        told = f"{path} is {json.dumps(value)}"
        if path in wanted:
            must, where = wanted[path]
            # In JSON 1 is not true, though Python holds them equal.
            if value != must or isinstance(value, bool) != isinstance(must, bool):
                yield f"{told} and must be {json.dumps(must)} ({where}); write it, or auto"
        elif path in _BATCH:
            yield (
                f"{told}, but a batch is counted in tokens (training.batch_tokens) and has other "
                "rows at each seq_len; write auto"
            )
        elif path == "optimizer.params.lr" or path.startswith("scheduler."):
            yield f"{told}, but rates and schedule are the stage's; write auto or leave it out"
        else:
            yield f"{told}, and this program does not hand that on to DeepSpeed; leave it out"
