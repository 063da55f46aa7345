"""The ways that race: ours as configs/embedded trains, nanochat's and nanoGPT's in their settings.

All have the same shape and updates of 2,048 tokens, and rise to their rates over 2 % of the run:
peers count their warm-ups in updates of runs of thousands, and here are hundreds. nanoGPT's rates
are those of its own small run (1e-3, beta2 0.99, 100 of 5,000 updates of warm-up, a cosine to a
tenth). Peers read rows of 256 tokens throughout, packed as ours are, and nanochat is compiled where
ours is.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from benchmarks.speed.racer import LONGEST_ROW, UPDATE_TOKENS, Racer, Rows, nats_of
from benchmarks.steps.nanochat import Chat
from benchmarks.steps.nanochat_optimizers import WARM_UP, ChatSchedule, chat_optimizers
from benchmarks.steps.nanogpt import GPT, adamw
from benchmarks.steps.peer import accumulate
from yxanul.bench.workload import Batch, Workload
from yxanul.config.schema import RunConfig
from yxanul.curriculum.stages import seq_len_at
from yxanul.hardware.choices import DTYPES
from yxanul.optim.optimizers import LearningRates
from yxanul.optim.schedule import learning_rate_factor
from yxanul.parallel.processes import ALONE
from yxanul.train.updates.engine import build_engine
from yxanul.train.updates.step import train_step

CPU = torch.device("cpu")
_NOMINAL_STEPS = 100_000  # progress as a step of so many: our schedules are functions of steps


class Ours:
    """Our model, optimizers and first stage's schedule."""

    def __init__(self, config: RunConfig, seed: int) -> None:
        optimization = config.optimization.model_copy(update={"seed": seed})
        self._training = config.stages[0].training
        self._model, self._engine = build_engine(
            config.model, optimization, processes=ALONE, device=CPU
        )
        self.parameters = _count(self._model)

    def learn(self, rows: Rows, progress: float) -> None:
        """Do one update at the rates and the length of this progress."""
        step = min(int(progress * _NOMINAL_STEPS), _NOMINAL_STEPS - 1)
        training = self._training
        factor = learning_rate_factor(training, step, total_steps=_NOMINAL_STEPS)
        matrices = training.learning_rate
        rates = LearningRates(
            matrices * factor,
            (training.embedding_learning_rate or matrices) * factor,
            (training.norm_learning_rate or matrices) * factor,
        )
        length = seq_len_at(training, step, total_steps=_NOMINAL_STEPS)
        train_step(self._engine, rows(length), rates=rates)

    @torch.no_grad()
    def read(self, inputs: Tensor, targets: Tensor) -> Tensor:
        """Return the nats of targets."""
        return self._model.nats(inputs, targets)


class NanoChat:
    """nanochat's model and optimizers, in the precision in which ours trains."""

    def __init__(self, config: RunConfig, seed: int) -> None:
        torch.manual_seed(seed)
        dtype = DTYPES[config.optimization.compute.precision]
        self._load = _workload(config, dtype)
        self._model = Chat(config.model, LONGEST_ROW, dtype=dtype)
        self.parameters = _count(self._model)
        compiled = config.optimization.compute.compile != "off"
        self._forward = torch.compile(self._model, dynamic=False) if compiled else self._model
        self._optimizers = chat_optimizers(self._model, self._load, compiled=compiled)
        self._schedule = ChatSchedule(self._optimizers)

    def learn(self, rows: Rows, progress: float) -> None:
        """Do one update."""
        self._schedule.settle(progress)
        accumulate(self._forward, _batch(rows), self._load)
        for optimizer in self._optimizers:
            optimizer.step()
        self._model.zero_grad(set_to_none=True)

    @torch.no_grad()
    def read(self, inputs: Tensor, targets: Tensor) -> Tensor:
        """Return the nats of targets."""
        return nats_of(self._model.logits(inputs), targets)


class NanoGPT:
    """nanoGPT's model and optimizer, fp32 as it is on a CPU."""

    def __init__(self, config: RunConfig, seed: int) -> None:
        torch.manual_seed(seed)
        self._load = _workload(config, torch.float32)
        self._model = GPT(config.model, LONGEST_ROW)
        self.parameters = _count(self._model)
        self._optimizer = adamw(self._model, CPU)
        for group in self._optimizer.param_groups:
            group["betas"] = (0.9, 0.99)

    def learn(self, rows: Rows, progress: float) -> None:
        """Do one update."""
        cosine = 0.1 + 0.9 * 0.5 * (1.0 + math.cos(math.pi * progress))
        for group in self._optimizer.param_groups:
            group["lr"] = 1e-3 * min(cosine, progress / WARM_UP)
        accumulate(self._model, _batch(rows), self._load)
        nn.utils.clip_grad_norm_(self._model.parameters(), 1.0)
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)

    @torch.no_grad()
    def read(self, inputs: Tensor, targets: Tensor) -> Tensor:
        """Return the nats of targets."""
        return nats_of(self._model.logits(inputs), targets)


RACERS: dict[str, Callable[[RunConfig, int], Racer]] = {
    "ours": Ours,
    "nanochat": NanoChat,
    "nanoGPT": NanoGPT,
}


def _count(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def _workload(config: RunConfig, dtype: torch.dtype) -> Workload:
    rows = UPDATE_TOKENS // LONGEST_ROW
    return Workload(config.model, LONGEST_ROW, rows, rows, CPU, dtype)


def _batch(rows: Rows) -> Batch:
    found = rows(LONGEST_ROW)
    return found.inputs, found.targets
