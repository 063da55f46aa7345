"""What processes can share equally: a step's rows, in every phase of a stage."""

from __future__ import annotations

import math
from collections.abc import Sequence

from yxanul.config.schema import StageConfig
from yxanul.errors import UsageError


def unequal_shares(stages: Sequence[StageConfig], processes: int, *, context: int) -> str | None:
    """Tell of a step whose rows the processes cannot share equally, and what helps; None: of none.

    `context`, the model's max_position_embeddings, is a sample's length where data.chunk_tokens is
    null.
    """
    for stage in stages:
        batch = stage.training.batch_tokens
        lengths = [phase.seq_len for phase in stage.training.seq_len_curriculum]
        for seq_len in lengths:
            rows = batch // seq_len
            if rows % processes:
                shares = (processes * length for length in lengths)
                # A step is made of whole samples.
                multiple = math.lcm(*shares, stage.data.chunk_tokens or context)
                return (
                    f"{stage.name}: {processes:,} processes cannot share the {rows:,} "
                    f"row{'s' * (rows != 1)} of {seq_len:,} tokens of a step equally; start "
                    f"another number of processes, or set {stage.name}.training.batch_tokens to "
                    f"a multiple of {multiple:,}"
                )
    return None


def refuse_unequal_shares(stages: Sequence[StageConfig], processes: int, *, context: int) -> None:
    """Raise a `UsageError` for such a step: the run would train until its phase and end there."""
    why = unequal_shares(stages, processes, context=context)
    if why is not None:
        raise UsageError(why)
