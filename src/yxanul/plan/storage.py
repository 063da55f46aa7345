"""Host memory and disk of a run, by what the program writes and reads: arithmetic again.

A checkpoint holds the fp32 weights and the optimizer's state, 12 bytes a parameter under AdamW. On
resuming every process reads one whole; on saving the main one holds a copy, and each file's bytes
while it is written. On disk stand the shards, 2 bytes a token with the held-out ones, and at most
`keep` checkpoints of each attempt, the permanent ones and one being written. Left out: the Python,
torch and CUDA runtimes of each process, the list of documents, metric rows, scores.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from yxanul.config.schema import RunConfig, StageConfig
from yxanul.plan.budget import extension_tokens, unique_tokens
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
    return max(processes * checkpoint_bytes(config), saving_bytes(config))


def saving_bytes(config: RunConfig) -> int:
    """Return the host memory of a save: the copy, and the largest file's bytes as it is written."""
    return checkpoint_bytes(config) + optimizer_bytes(config.model, config.optimization)


def disk_bytes(config: RunConfig) -> int | None:
    """Return the bytes of shards and checkpoints, stages as long as their gates may make them.

    None if a stage's tokens are not known yet.
    """
    shards = shard_bytes(config)
    return None if shards is None else shards + kept_checkpoint_bytes(config, is_lengthened=True)


def shard_bytes(config: RunConfig) -> int | None:
    """Return the bytes of all stages' shards; None if a stage's tokens are not known yet."""
    shards = 0.0
    for stage in config.stages:
        unique = unique_tokens(stage)
        if unique is None:
            return None
        shards += TOKEN_BYTES * unique / (1 - stage.data.validation_fraction)
    return round(shards)


def kept_checkpoint_bytes(
    config: RunConfig,
    *,
    is_lengthened: bool,
    extended: Mapping[str, int] | None = None,
    done_tokens: int = 0,
) -> int:
    """Return the bytes of all checkpoints that are kept to the end, and of one in writing.

    `is_lengthened`: every stage is extended as often as its gate allows. Of a run that goes on only
    what it has still to keep counts: `config` has the stages from the one on that it stands in,
    `extended` is {stage: how often it is lengthened already}, `done_tokens` what is trained of it.
    """
    kept, tokens = config.optimization.checkpoint.keep + 1, -float(done_tokens)
    for stage in config.stages:
        done, rule = (extended or {}).get(stage.name, 0), stage.gate.extension
        times = max(0, rule.max_extensions - done) if is_lengthened else 0
        # One already made has moved the stage's end; what it began at is kept already.
        kept += _of_borders(config, stage, times=times)
        tokens += stage.training.total_tokens * (1 + done * rule.fraction)
        tokens += extension_tokens(stage, times=times)
    return (kept + math.floor(max(0.0, tokens) / _permanent_every(config))) * checkpoint_bytes(
        config
    )


def rollback_bytes(config: RunConfig, stage: StageConfig) -> int:
    """Return the bytes of the checkpoints that one attempt at a stage leaves behind at its end.

    It was lengthened as often as the gate allows, and is begun anew from the stage's entry.
    """
    times = stage.gate.extension.max_extensions
    tokens = stage.training.total_tokens + extension_tokens(stage, times=times)
    left = _of_borders(config, stage, times=times)
    # Its newest ones stay, of which the last is the stage's end.
    left += config.optimization.checkpoint.keep - 1
    return (left + math.ceil(tokens / _permanent_every(config))) * checkpoint_bytes(config)


def rollbacks_bytes(config: RunConfig) -> int:
    """Return the bytes of what is left behind by every attempt that a gate may begin anew."""
    return sum(
        stage.gate.rollback.max_rollbacks * rollback_bytes(config, stage) for stage in config.stages
    )


def _of_borders(config: RunConfig, stage: StageConfig, *, times: int) -> int:
    """Return how many checkpoints a stage of `times` extensions keeps, beside those of tokens.

    One of its end and, where it may be lengthened before its decay, one of the weights from which
    that began. An extension has its own, and leaves the newest of the attempt before it.
    """
    borders = 2 if stage.training.schedule == "wsd" else 1
    return borders + times * (borders + config.optimization.checkpoint.keep - 1)


def _permanent_every(config: RunConfig) -> float:
    return config.optimization.checkpoint.permanent_every_tokens or math.inf
