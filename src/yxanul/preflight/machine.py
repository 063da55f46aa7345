"""The machine's own part: what of the configuration it can do, its step, its bus."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from yxanul.config.load import dump_config
from yxanul.config.schema import RunConfig
from yxanul.errors import InfrastructureError, UsageError, YxanulError
from yxanul.hardware.choices import compile_by_rule, pick_device, unused_card
from yxanul.hardware.compiler import compile_obstacle
from yxanul.hardware.doctor import examine
from yxanul.hardware.failures import naming_failed_hardware
from yxanul.plan.memory import FP32_BYTES
from yxanul.plan.parameters import parameter_count
from yxanul.preflight.finding import Finding, State
from yxanul.preflight.measuring import Measured, Rate
from yxanul.train.processes.links import all_reduce_s

_SLOW_BUS = 0.25
"""An exchange of all gradients longer than this share of an update's arithmetic is told."""
_LEEWAY_S = 20.0


@naming_failed_hardware()
def look_at_features(config: RunConfig, *, processes: int) -> Finding:
    """Return what of the configuration is active here, as `yxanul doctor` tells it."""
    device = pick_device()
    diagnosis = examine(config.optimization, config.stages, device=device, processes=processes)
    missing = [f for f in diagnosis.features if f.asked and f.state != "active"]
    active = [f.name for f in diagnosis.features if f.state == "active"]
    value = {"device": diagnosis.device, "active": active, "missing": [f.name for f in missing]}
    lacking = "; ".join(f"{f.name} ({f.reason})" for f in missing)
    wishes = [f"asked for and not active: {lacking}"] if missing else []
    cuda = next(f for f in diagnosis.features if f.name == "CUDA")
    if cuda in missing:
        code = (unused_card() or UsageError()).exit_code
        return Finding("features", "fail", value, wishes[0], code)
    if device.type != "cuda":
        why = f"no card is used, the run would train on {diagnosis.device}: {cuda.why}"
        return Finding("features", "warn", value, "; ".join([why, *wishes]))
    if missing:
        return Finding("features", "warn", value, wishes[0])
    why = f"{torch.cuda.device_count()} x {diagnosis.device}; all that was asked for is active"
    return Finding("features", "pass", value, why)


@naming_failed_hardware()
def look_at_compiling() -> Finding:
    """Judge `compute.compile=auto`: a card that lacks what compiling needs trains far slower.

    Nobody asked for compiling by name, so it is no wish that `look_at_features` would miss.
    """
    device = pick_device()
    rule = compile_by_rule(device)
    obstacle = compile_obstacle(device) if device.type == "cuda" else None
    if obstacle is None:
        return Finding("compile", "pass", None, f"compute.compile=auto is {rule} here, by rule")
    why = (
        f"compute.compile=auto is {rule} here, where each block would be compiled, which made an "
        f"H200 train 1.6 times as fast: it {obstacle}"
    )
    return Finding("compile", "warn", None, why)


def measure_apart(config: RunConfig, *, processes: int, limit_s: float) -> Measured:
    """Let `processes` other processes measure, as many seconds at most.

    What they refuse is a `UsageError`, and so is a CPU that is too slow for it; no memory, and no
    end in time on cards, are an `InfrastructureError`.
    """
    with tempfile.TemporaryDirectory(prefix="yxanul-") as scratch:
        request, answer = Path(scratch) / "config.yaml", Path(scratch) / "measured.json"
        request.write_text(dump_config(config), encoding="utf-8")
        words = [str(request), str(answer), str(math.ceil(limit_s))]
        begin = time.monotonic()
        end = _run([*_launcher(processes), "-m", "yxanul.preflight.measuring", *words], limit_s)
        if answer.exists():
            return _read(answer)
        refusals = sorted(Path(scratch).glob("refusal-*.json"))
        if refusals:
            told = json.loads(refusals[0].read_text(encoding="utf-8"))
            kind = UsageError if told["code"] == UsageError.exit_code else InfrastructureError
            raise kind(told["error"])
        if time.monotonic() - begin >= limit_s:
            raise _too_late(config, limit_s)
        raise InfrastructureError(f"no step was measured: the process {end}")


def _too_late(config: RunConfig, limit_s: float) -> YxanulError:
    """Return what it means that no step was measured in time, and what to do."""
    told = f"no step was measured within {limit_s:.0f} s"
    if config.optimization.compute.compile == "model":
        return InfrastructureError(
            f"{told}, in which the whole model is compiled for two lengths: set "
            "compute.compile=block, which is ready sooner"
        )
    if pick_device().type == "cpu":
        return UsageError(
            f"{told}: this CPU takes longer for {config.model.name}, and another start would too; "
            "yxanul bench step --config_dir DIR --model FILE --json > STEP has no limit, and "
            "yxanul plan --config_dir DIR --model FILE --measured STEP plans with it; give both "
            "every --set of the run"
        )
    return InfrastructureError(told)


def look_at_step(measured: Measured, config: RunConfig) -> Finding:
    """Tell the measured rate of updates, at each length, over all processes.

    They are torch's own, also where DeepSpeed will train: that it was not measured is a warning.
    """
    value = {
        "device": measured.device,
        "processes": measured.processes,
        "compiled": measured.compiled,
        "fp8": measured.fp8,
        "rates": [_rate_json(rate, measured.processes) for rate in measured.rates],
    }
    told = ", ".join(
        f"{measured.processes * rate.tokens_per_s:,.0f} tokens/s at {rate.seq_len:,}"
        + ("" if rate.mfu is None else f" (MFU {rate.mfu:.1%})")
        for rate in measured.rates
    )
    compute = config.optimization.compute
    why = (
        f"{told}; {measured.processes} x {measured.device}, compile {measured.compiled}, "
        f"FP8 {measured.fp8}"
    )
    if compute.fp8 == "auto":
        why += " (auto was not tried: a run's first start on a card times it)"
    if compute.is_share_open:
        why += "; checkpointed_share is open: on a card as few blocks are recomputed as should fit"
    warnings = [f"slow: {'; '.join(measured.slow)}"] if measured.slow else []
    if compute.engine == "deepspeed":
        warnings.append("torch's own engine was measured, not DeepSpeed's, which will train")
    return Finding("step", "warn" if warnings else "pass", value, "; ".join([why, *warnings]))


def look_at_links(measured: Measured, config: RunConfig) -> Finding:
    """Tell the bus between the processes, and what share of an update an exchange would take."""
    if measured.bus_bytes_per_s is None:
        why = "not measured: there is one process, so nothing is exchanged"
        return Finding("links", "pass", None, why)
    exchange_s = exchange_seconds(measured, config)
    # The stage of the smallest batch exchanges most often.
    batch = min(stage.training.batch_tokens for stage in config.stages)
    fastest = max(rate.tokens_per_s for rate in measured.rates)
    share = exchange_s * measured.processes * fastest / batch
    value = {
        "bus_bytes_per_s": measured.bus_bytes_per_s,
        "exchange_s": exchange_s,
        "share_of_update": share,
    }
    why = (
        f"{measured.bus_bytes_per_s / 1e9:.2f} GB/s in an all-reduce; exchanging all gradients "
        f"takes {1e3 * exchange_s:,.0f} ms, {share:.0%} of an update's arithmetic"
    )
    state: State = "pass"
    if share > _SLOW_BUS:
        state, why = "warn", f"{why}: a slow bus, look for a machine with NVLink"
    return Finding("links", state, value, why)


def exchange_seconds(measured: Measured, config: RunConfig) -> float:
    """Return the seconds of one exchange of all gradients, by the measured bus; 0 for one."""
    if measured.bus_bytes_per_s is None:
        return 0.0
    size, ranks = FP32_BYTES * parameter_count(config.model).total, measured.processes
    return all_reduce_s(size, ranks=ranks, bus_bytes_per_s=measured.bus_bytes_per_s)


def _rate_json(rate: Rate, processes: int) -> dict[str, Any]:
    return {
        "seq_len": rate.seq_len,
        "tokens_per_s": processes * rate.tokens_per_s,
        "mfu": rate.mfu,
    }


def _launcher(processes: int) -> list[str]:
    if processes == 1:
        return [sys.executable]
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    return [*launcher, "--nproc_per_node", str(processes)]


def _run(command: list[str], limit_s: float) -> str:
    """Return how the command ended, with the last line of what it said."""
    source = str(Path(__file__).parents[2])  # a checkout works without being installed
    path = os.pathsep.join(filter(None, [source, os.environ.get("PYTHONPATH")]))
    with tempfile.TemporaryFile() as said:
        try:
            code = subprocess.run(
                command,
                stdout=subprocess.DEVNULL,
                stderr=said,
                env={**os.environ, "PYTHONPATH": path},
                # The processes end themselves at the limit; torchrun has to notice.
                timeout=limit_s + _LEEWAY_S,
                check=False,
            ).returncode
        except subprocess.TimeoutExpired:
            return "did not end"
        said.seek(0)
        text = said.read().decode(errors="replace")
    # torchrun draws borders around how its ranks ended.
    lines = [line.strip() for line in text.splitlines() if line.strip(" =-")]
    return f"left with {code} and said: {lines[-1][:200] if lines else 'nothing'}"


def _read(answer: Path) -> Measured:
    told = json.loads(answer.read_text(encoding="utf-8"))
    rates = tuple(Rate(**rate) for rate in told.pop("rates"))
    return Measured(**{**told, "rates": rates, "slow": tuple(told["slow"])})
