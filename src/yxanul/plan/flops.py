"""Floating-point operations per trained token, in two conventions that must always be named.

A multiply-add is 2 operations; the backward pass costs twice the forward pass, so every parameter
of a matrix product costs 6 per token. The look-up of the embedding is free, the tied head counts
once, with vocab_size rows. Attention at length T: scores and their use are 2 products of T x width
per token and layer, 12 T width with the backward pass. "palm" counts all of it (PaLM, arXiv
2204.02311, appendix B); "causal" counts the half that causal attention needs. Softmax, norms and
activation functions are left out, as in that paper.
"""

from __future__ import annotations

from typing import Literal

from yxanul.config.schema import ModelConfig, StageConfig
from yxanul.plan.budget import extension_tokens, phase_tokens
from yxanul.plan.parameters import parameter_count

Convention = Literal["palm", "causal"]


def flops_per_token(model: ModelConfig, seq_len: float, *, convention: Convention = "palm") -> int:
    """Return the operations of forward and backward per token at a sequence length of `seq_len`.

    Where the documents of a row are read apart, that is the mean length that a token's has.
    """
    count = parameter_count(model)
    width = model.num_attention_heads * model.head_dim
    attention = round(12 * model.num_hidden_layers * width * seq_len)
    if convention == "causal":
        attention //= 2
    return 6 * (count.matrices + count.embedding) + attention


def stage_flops(model: ModelConfig, stage: StageConfig, *, convention: Convention = "palm") -> int:
    """Return the operations of a whole stage, each phase at its own sequence length."""
    return sum(
        tokens * flops_per_token(model, seq_len, convention=convention)
        for seq_len, tokens in phase_tokens(stage.training)
    )


def extension_flops(model: ModelConfig, stage: StageConfig) -> float:
    """Return the operations (PaLM) of all extensions of a stage that its gate may ask for.

    They go on at the last phase's sequence length.
    """
    longest = stage.training.seq_len_curriculum[-1].seq_len
    tokens = extension_tokens(stage, times=stage.gate.extension.max_extensions)
    return tokens * flops_per_token(model, longest)


def rollback_flops(model: ModelConfig, stage: StageConfig) -> float:
    """Return the operations (PaLM) of all attempts at a stage that its gate may begin anew.

    Each may be lengthened as often as the first.
    """
    once = stage_flops(model, stage) + extension_flops(model, stage)
    return stage.gate.rollback.max_rollbacks * once


def recomputed_flops_per_token(model: ModelConfig, seq_len: int) -> int:
    """Return the operations that gradient checkpointing adds per token: the layers' forward again.

    Head and loss are not done again, nor is the last product of a layer (down), whose result no
    gradient needs: torch stops before it. MFU counts none of this work.
    """
    count = parameter_count(model)
    width = model.num_attention_heads * model.head_dim
    products = count.attention_per_layer + 2 * count.ffn_per_layer // 3
    return model.num_hidden_layers * (2 * products + 4 * width * seq_len)


def recomputed_share(model: ModelConfig, stages: tuple[StageConfig, ...]) -> float:
    """Return the work that gradient checkpointing adds to a plan, as a share of its operations."""
    phases = [phase for stage in stages for phase in phase_tokens(stage.training)]
    again = sum(tokens * recomputed_flops_per_token(model, length) for length, tokens in phases)
    return again / sum(stage_flops(model, stage) for stage in stages)
