"""The table of every optimisation: active, available or unavailable, and why.

It heads every start of a run, lies in RUN/environment.json as the newest start found it, and is
what `yxanul doctor` prints. Nothing is chosen here: the choices are `yxanul.hardware.choices`' and
the configuration's.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch

from yxanul.config.optimization import PLAIN_UP_TO
from yxanul.config.schema import OptimizationConfig, StageConfig
from yxanul.errors import UsageError
from yxanul.hardware.choices import DTYPES, settle_compute
from yxanul.hardware.device import device_name
from yxanul.hardware.feature import Case, Feature, Row, State
from yxanul.hardware.memory import keep_freed_memory
from yxanul.hardware.peak import gemm_flops
from yxanul.hardware.rows import arithmetic, machine, optional, recipe

ROWS: tuple[Row, ...] = (
    machine.device,
    machine.cuda,
    arithmetic.precision,
    arithmetic.attention,
    arithmetic.kernels,
    arithmetic.document_masking,
    arithmetic.compilation,
    arithmetic.chunked_loss,
    recipe.fused_adamw,
    recipe.muon,
    recipe.linear_decay,
    recipe.sequence_lengths,
    arithmetic.gradient_checkpointing,
    machine.freed_memory,
    machine.allocator,
    machine.threads,
    machine.processes,
    machine.bus,
    optional.zero1,
    optional.deepspeed,
    optional.fp8,
    optional.flash_attention_3,
    optional.liger,
    optional.apex,
)


@dataclass(frozen=True)
class Diagnosis:
    """The table, and the machine it is true of."""

    device: str
    rates: Mapping[str, float]
    features: tuple[Feature, ...]


def list_features(case: Case) -> tuple[Feature, ...]:
    """Return every row in a fixed order."""
    return tuple(row(case) for row in ROWS)


def examine(
    optimization: OptimizationConfig,
    stages: Sequence[StageConfig],
    *,
    device: torch.device,
    processes: int,
) -> Diagnosis:
    """Judge a configuration on this machine as `processes` of them train it together.

    Without stages the defaults are judged. Both types of products are timed on a CPU, about a
    second. What is impossible is a row, not an error.
    """
    lengths = [phase.seq_len for s in stages for phase in s.training.seq_len_curriculum]
    compute = settle_compute(
        optimization.compute, device, longest_seq_len=max(lengths, default=PLAIN_UP_TO)
    )
    before = torch.get_num_threads()
    torch.set_num_threads(compute.threads or before)
    rates = measure_rates(device)
    torch.set_num_threads(before)
    case = Case(
        optimization=optimization.model_copy(update={"compute": compute}),
        stages=tuple(stages),
        device=device,
        world_size=processes,
        malloc=keep_freed_memory() if compute.keep_freed_memory else "off",
        rates=rates,
        wish=optimization.compute,
    )
    return Diagnosis(device_name(device), rates, list_features(case))


def measure_rates(
    device: torch.device, *, known: Mapping[str, float] | None = None
) -> dict[str, float]:
    """Return FLOP/s of matrix products by type on a CPU, the `known` ones untimed; else nothing.

    A type that is measured beside a known one gets two products only: it decides nothing.
    """
    if device.type != "cpu":
        return {}
    known = known or {}
    repeats = 2 if known else 20
    return {
        name: known[name] if name in known else gemm_flops(dtype, repeats=repeats)
        for name, dtype in DTYPES.items()
    }


def refuse_inactive(features: Sequence[Feature]) -> None:
    """Raise a `UsageError` that names everything that was asked for and is not active."""
    missing = [f"{f.name} ({f.reason})" for f in features if f.asked and f.state != "active"]
    if missing:
        raise UsageError(f"asked for and not active: {'; '.join(missing)}")


def summarise(features: Sequence[Feature]) -> Iterator[str]:
    """Yield at most three lines, one per state, for the head of a run."""
    labels: dict[State, str] = {
        "active": "active",
        "available": "not used",
        "unavailable": "unavailable (yxanul doctor says why)",
    }
    for state, label in labels.items():
        names = [_short(feature) for feature in features if feature.state == state]
        if names:
            yield f"{label}: {', '.join(names)}"


def _short(feature: Feature) -> str:
    return f"{feature.name} {feature.choice}".rstrip()
