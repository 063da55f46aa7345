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
from yxanul.plan.budget import phase_tokens
from yxanul.plan.parameters import parameter_count

Convention = Literal["palm", "causal"]


def flops_per_token(model: ModelConfig, seq_len: int, *, convention: Convention = "palm") -> int:
    """Return the operations of forward and backward per token at a sequence length of `seq_len`."""
    count = parameter_count(model)
    width = model.num_attention_heads * model.head_dim
    attention = 12 * model.num_hidden_layers * width * seq_len
    if convention == "causal":
        attention //= 2
    return 6 * (count.matrices + count.embedding) + attention


def stage_flops(model: ModelConfig, stage: StageConfig, *, convention: Convention = "palm") -> int:
    """Return the operations of a whole stage, each phase at its own sequence length."""
    return sum(
        tokens * flops_per_token(model, seq_len, convention=convention)
        for seq_len, tokens in phase_tokens(stage.training)
    )


def recomputed_share(model: ModelConfig) -> float:
    """Return the work that gradient checkpointing adds, as a share of forward and backward.

    Every layer's forward pass is done twice, head and loss are not. Attention is left out of both
    sides, which makes little difference: 0.29 for the flagship, 0.31 with attention over 4,096.
    """
    count = parameter_count(model)
    return count.matrices / (3 * (count.matrices + count.embedding))
