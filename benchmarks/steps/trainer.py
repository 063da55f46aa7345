"""Hugging Face's Trainer on transformers' own Gemma class, of our shape and with our weights."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from itertools import islice
from typing import Any

import torch
from torch.utils.data import IterableDataset
from transformers import Trainer, TrainerCallback, TrainingArguments
from transformers.trainer_callback import PrinterCallback

from benchmarks.gemma import as_gemma
from yxanul.bench.workload import StepRun, Workload, filled, forget_peak
from yxanul.config.schema import OptimizerConfig
from yxanul.hardware.device import synchronise
from yxanul.model.transformer import Transformer
from yxanul.parallel.compiling import graphs_made
from yxanul.plan.flops import flops_per_token
from yxanul.plan.parameters import parameter_count


def trainer(workload: Workload, *, liger: bool = False, compiled: bool = False) -> StepRun:
    """Time updates by Trainer, with Liger's kernels on a card or torch.compile as asked.

    Not with both: torch.compile would not see into those kernels.
    """
    model = as_gemma(Transformer.initialised(workload.model, seed=workload.seed))
    model.set_attn_implementation("sdpa")
    watch = _Watch(workload)
    with tempfile.TemporaryDirectory() as folder:
        runner = Trainer(
            model=model,
            args=_arguments(workload, folder, liger=liger, compiled=compiled),
            train_dataset=_Rows(workload),
            data_collator=_collated,
            callbacks=[watch],
        )
        runner.remove_callback(PrinterCallback)
        forget_peak(workload.device)
        runner.train()
    extras = " + Liger" * liger + ", compiled" * compiled
    run = StepRun(
        name=f"Hugging Face Trainer{extras}",
        parameters=parameter_count(workload.model).total,
        flops_per_token=flops_per_token(workload.model, workload.seq_len),
    )
    return filled(run, watch.seconds, losses=watch.losses, graphs=watch.graphs, workload=workload)


def _arguments(
    workload: Workload, folder: str, *, liger: bool, compiled: bool
) -> TrainingArguments:
    defaults = OptimizerConfig()
    return TrainingArguments(
        output_dir=folder,
        max_steps=workload.updates,
        per_device_train_batch_size=workload.micro_rows,
        gradient_accumulation_steps=workload.rows // workload.micro_rows,
        learning_rate=1e-3,
        lr_scheduler_type="constant",
        weight_decay=defaults.weight_decay,
        adam_beta2=defaults.beta2,
        max_grad_norm=defaults.max_grad_norm,
        optim="adamw_torch_fused",
        bf16=workload.dtype == torch.bfloat16,
        use_cpu=workload.device.type == "cpu",
        use_liger_kernel=liger,
        torch_compile=compiled,
        dataloader_pin_memory=workload.device.type == "cuda",
        remove_unused_columns=False,
        logging_steps=1,
        logging_nan_inf_filter=False,
        report_to="none",
        save_strategy="no",
        disable_tqdm=True,
    )


class _Rows(IterableDataset[dict[str, torch.Tensor]]):
    """The workload's rows one by one, in its order."""

    def __init__(self, workload: Workload) -> None:
        self._workload = workload

    def __iter__(self) -> Iterator[dict[str, torch.Tensor]]:
        for inputs, targets in islice(self._workload.batches(), self._workload.updates):
            for row, wanted in zip(
                torch.from_numpy(inputs), torch.from_numpy(targets), strict=True
            ):
                yield {"input_ids": row, "targets": wanted}


def _collated(rows: list[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    targets = torch.stack([row["targets"] for row in rows])
    # Labels that are shifted already: the last token of a row has a target too.
    return {
        "input_ids": torch.stack([row["input_ids"] for row in rows]),
        "labels": targets,
        "shift_labels": targets,
    }


class _Watch(TrainerCallback):
    """Keeps the time from update to update, fetching and logging included; losses and graphs."""

    def __init__(self, workload: Workload) -> None:
        self.seconds: list[float] = []
        self.losses: list[float] = []
        self.graphs: list[int] = []
        self._device = workload.device
        self._begin = 0.0

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        """Start the clock."""
        self._begin = time.perf_counter()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        """Take the time, and the graphs made until now."""
        synchronise(self._device)
        now = time.perf_counter()
        self.seconds.append(now - self._begin)
        self.graphs.append(graphs_made())
        self._begin = now

    def on_log(self, *_: Any, **told: Any) -> None:
        """Keep the loss; the last entry is a summary."""
        if "loss" in told["logs"]:
            self.losses.append(float(told["logs"]["loss"]))
