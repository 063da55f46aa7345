"""Host memory and disk of a run, by what the program writes and reads: arithmetic again.

A checkpoint holds the fp32 weights and the optimizer's state, 12 bytes a parameter under AdamW. On
resuming every process reads one whole; on saving the main one holds a copy, and each file's bytes
while it is written. On disk stand the shards, 2 bytes a token with the held-out ones, and at most
`keep` checkpoints, the permanent ones and one being written. Left out: the Python, torch and CUDA
runtimes of each process, the list of documents, metric rows, scores.
"""

from __future__ import annotations

from yxanul.config.schema import RunConfig
from yxanul.plan.budget import unique_tokens
from yxanul.plan.memory import FP32_BYTES, optimizer_bytes
from yxanul.plan.parameters import parameter_count

TOKEN_BYTES = 2  # uint16


def checkpoint_bytes(config: RunConfig) -> int:
    """Return the size of one checkpoint: weights and optimizer state."""
    weights = FP32_BYTES * parameter_count(config.model).total
    return weights + optimizer_bytes(config.model, config.optimization)


def ram_bytes(config: RunConfig, *, processes: int) -> int:
    """Return the host memory of `processes` processes, one per card, at its peak.

    That is on resuming, or for a single process on saving.
    """
    saving = checkpoint_bytes(config) + optimizer_bytes(config.model, config.optimization)
    return max(processes * checkpoint_bytes(config), saving)


def disk_bytes(config: RunConfig) -> int | None:
    """Return the bytes of shards and checkpoints; None if a stage's tokens are not known yet."""
    shards = 0.0
    for stage in config.stages:
        unique = unique_tokens(stage)
        if unique is None:
            return None
        shards += TOKEN_BYTES * unique / (1 - stage.data.validation_fraction)
    return round(shards) + kept_checkpoint_bytes(config)


def kept_checkpoint_bytes(config: RunConfig) -> int:
    """Return the bytes of all checkpoints that are kept to the end, and of one in writing."""
    settings = config.optimization.checkpoint
    # A stage that may be lengthened also keeps the weights from which its decay began.
    decays = sum(stage.training.schedule == "wsd" for stage in config.stages)
    kept = settings.keep + len(config.stages) + decays + 1
    if settings.permanent_every_tokens is not None:
        tokens = sum(stage.training.total_tokens for stage in config.stages)
        kept += tokens // settings.permanent_every_tokens
    return kept * checkpoint_bytes(config)
