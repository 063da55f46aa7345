"""Start values: linear weights normal(0.02), outputs scaled down by depth, the embedding by width.

The block multiplies embeddings by sqrt(hidden_size) and uses the same matrix as head, so an
embedding deviation of 0.02 would start at a loss of 14.87 and not at ln(50,257) = 10.82: the
residual stream carries the token's own embedding to the head. 0.02 / sqrt(hidden_size) starts at
10.83.
"""

import math

import torch
from torch import nn

from yxanul.config.schema import ModelConfig


def parameter_deviation(name: str, config: ModelConfig) -> float:
    """Return the standard deviation at which the matrix called `name` starts; 0.0 for norms."""
    deviation = config.initializer_range
    if name.endswith("norm.weight"):
        return 0.0
    if name.endswith("embed_tokens.weight"):
        return deviation / math.sqrt(config.hidden_size)
    if name.endswith(("o_proj.weight", "down_proj.weight")):
        # Two additions to the residual stream per layer: GPT-2's scaling by depth.
        return deviation / math.sqrt(2 * config.num_hidden_layers)
    return deviation


@torch.no_grad()
def initialise(model: nn.Module, config: ModelConfig, *, seed: int) -> None:
    """Fill every parameter of `model` in place, the same for the same seed."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        deviation = parameter_deviation(name, config)
        if deviation == 0.0:
            parameter.zero_()
        else:
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * deviation)
