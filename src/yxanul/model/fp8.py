"""8-bit matrix products for training (arXiv 2209.05433), made by torchao from its own recipes.

Inputs, weights and gradients are rounded to FP8 with scales found anew for every product; weights
stay fp32, and products are summed in fp32. Only passes with gradients are rounded, so scores and
samples are those of the weights as they are. The head is not rounded: its product is the loss's.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from yxanul.config.optimization import FP8_MULTIPLE
from yxanul.errors import MissingExtraError, UsageError
from yxanul.model.layers import Block, GatedMLP, Linear, Product, SelfAttention


def use_fp8(blocks: Iterable[nn.Module], part: str, *, recipe: str, emulate: bool = False) -> None:
    """Give the matrices of blocks 8-bit products: the `ffn`, or all of the `blocks`.

    recipe is torchao's "tensorwise" or "rowwise" scaling; with emulate the rounding is real and the
    product is not, on any device. A side that is no multiple of 16 is a `UsageError`.
    """
    product = _fp8_product(recipe, emulate=emulate)
    parts = GatedMLP if part == "ffn" else Block
    for module in (m for block in blocks for m in block.modules() if isinstance(m, parts)):
        for matrix in module.modules():
            if isinstance(matrix, Linear):
                _refuse_odd(matrix)
                matrix.product = product
            elif isinstance(matrix, SelfAttention):
                matrix.product = product


def hush_torchao() -> None:
    """Let torchao be loaded without a word about kernels of its own that nobody here calls."""
    for name in ("torchao", "torch.utils._pytree"):
        logging.getLogger(name).setLevel(logging.ERROR)


def _refuse_odd(matrix: Linear) -> None:
    if any(side % FP8_MULTIPLE for side in matrix.weight.shape):
        rows, columns = matrix.weight.shape
        raise UsageError(
            f"compute.fp8 needs matrices whose sides are multiples of {FP8_MULTIPLE}, and one has "
            f"{rows} x {columns}; change the model's sizes or set compute.fp8=off"
        )


def _fp8_product(recipe: str, *, emulate: bool) -> Product:
    """Return x, weight -> x @ weight.T in FP8 under gradients, in the type of x otherwise."""
    hush_torchao()
    try:
        from torchao.float8.config import Float8LinearConfig
        from torchao.float8.float8_linear import matmul_with_hp_or_float8_args
        from torchao.float8.float8_training_tensor import LinearMMConfig, ScaledMMConfig
    except ImportError as error:
        raise MissingExtraError(
            f"compute.fp8 needs the package torchao ({error}): pip install 'yxanul[fp8]', or set "
            "compute.fp8=off"
        ) from error
    config = dataclasses.replace(
        Float8LinearConfig.from_recipe_name(recipe), emulate=emulate, pad_inner_dim=True
    )
    gemms = (
        config.gemm_config_output,
        config.gemm_config_grad_input,
        config.gemm_config_grad_weight,
    )
    ways = LinearMMConfig(
        *(ScaledMMConfig(emulate, gemm.use_fast_accum, pad_inner_dim=True) for gemm in gemms)
    )

    def product(x: Tensor, weight: Tensor) -> Tensor:
        if not torch.is_grad_enabled():
            return F.linear(x, weight)
        out: Tensor = matmul_with_hp_or_float8_args.apply(x, weight.t(), ways, config)
        return out

    return product
