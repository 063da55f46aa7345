"""Promises of speed that cards have judged, at the flagship's shape (docs/performance.md).

Another shape gets the same sentence and no verdict: what a kernel is worth depends on the width.
"""

from __future__ import annotations

from dataclasses import replace

from yxanul.config.schema import ModelConfig
from yxanul.plan.claims.claim import Claim

_LAYERS, _HIDDEN, _INNER = 28, 768, 3072
_FP8 = Claim(
    claim="FP8: 2x throughput on H100 and H200",
    promised=2.0,
    unit="x",
    computed=0.96,
    holds=False,
    why="the flagship is slower with it (2026-11-27): 0.96x in the feed-forward layers, 0.93x in "
    "whole blocks on one H200, 0.94x and 0.92x on one H100, where blocks of width 1,536 reach "
    "1.04x; public runs: slower at width 768 (nanochat d12), +17 % at width 1,664, +25-28 % for 8B "
    "models; an A100 has no FP8",
)
_COMPILE = Claim(
    claim="torch.compile: 1.3x overall",
    promised=1.3,
    unit="x",
    computed=1.64,
    holds=True,
    why="on one H200 the flagship is 1.64x as fast with each block compiled (2026-11-26); "
    "torchtitan reports 1.16x for an 8B model",
)


def measured_claims(model: ModelConfig) -> tuple[Claim, ...]:
    """Return the promises that were measured, judged for the shape that was."""
    sizes = (model.num_hidden_layers, model.hidden_size, model.intermediate_size)
    if sizes == (_LAYERS, _HIDDEN, _INNER):
        return (_FP8, _COMPILE)
    return tuple(replace(claim, computed=None, holds=None) for claim in (_FP8, _COMPILE))
