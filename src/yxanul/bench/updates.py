"""Our own update, as a run does it: the same model, engine and optimizers."""

from __future__ import annotations

import statistics
import time

from yxanul.bench.workload import Batch, StepRun, Workload, time_steps
from yxanul.config.schema import OptimizationConfig
from yxanul.data.batches.loader import StepRows
from yxanul.hardware.choices import DTYPES, freeze_compute
from yxanul.hardware.device import memory_bytes, synchronise
from yxanul.optim.optimizers import LearningRates
from yxanul.parallel.processes import ALONE
from yxanul.plan.flops import flops_per_token
from yxanul.plan.memory import CARD_SHARE, Update, recomputing_least, update_memory
from yxanul.plan.parameters import parameter_count
from yxanul.train.updates.engine import build_engine
from yxanul.train.updates.step import attended_tokens, measure_step, refuse_not_finite

_RATES = LearningRates(matrices=1e-3, embedding=1e-3, norms=1e-3)


def time_updates(name: str, workload: Workload, *, optimization: OptimizationConfig) -> StepRun:
    """Time updates under these settings, which are `settled` for the workload."""
    _, engine = build_engine(workload.model, optimization, processes=ALONE, device=workload.device)

    optimizer_s: list[float] = []

    def step(batch: Batch) -> float:
        result = measure_step(engine, StepRows.whole(*batch))  # which a card has done by now
        refuse_not_finite(result)
        begin = time.perf_counter()
        engine.optimizers.step(_RATES)
        synchronise(workload.device)
        optimizer_s.append(time.perf_counter() - begin)
        return result.loss

    length = float(workload.seq_len)
    if workload.document_tokens is not None:
        length = attended_tokens(StepRows.whole(*next(workload.batches())), optimization.compute)
    run = StepRun(
        name=name,
        parameters=parameter_count(workload.model).total,
        flops_per_token=flops_per_token(workload.model, length),
    )
    time_steps(run, step, workload=workload)
    run.optimizer_s = statistics.median(optimizer_s[1 + workload.warmup :])
    return run


def settled(optimization: OptimizationConfig, workload: Workload) -> OptimizationConfig:
    """Return the settings with every `auto` chosen as a run chooses it by rule.

    Precision and micro-batch are the workload's. Where the share of recomputed blocks is open, a
    run's first start on a card finds how few will do: so few as fit the card by arithmetic.
    """
    precision = next(name for name, dtype in DTYPES.items() if dtype == workload.dtype)
    wish = optimization.compute.model_copy(
        update={"precision": precision, "micro_batch_tokens": workload.micro_tokens}
    )
    compute = freeze_compute(wish, workload.device, longest_seq_len=workload.seq_len)
    found = optimization.model_copy(update={"compute": compute})
    if not optimization.compute.is_share_open or workload.device.type != "cuda":
        return found
    accumulates = workload.micro_rows < workload.rows
    update = Update(workload.micro_tokens, workload.seq_len, accumulates=accumulates)
    limit = CARD_SHARE * memory_bytes(workload.device)
    return recomputing_least(
        workload.model,
        found,
        fits=lambda tried: update_memory(workload.model, tried, update=update).total <= limit,
    )
