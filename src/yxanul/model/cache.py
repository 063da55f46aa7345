"""Keys and values of the positions that a model has read, so that a new token costs one position.

Memory for the whole length is taken at the beginning; key and value heads are kept as they are, not
repeated for the groups of query heads that share them (arXiv 2305.13245).
"""

import torch
from torch import Tensor

from yxanul.config.schema import ModelConfig


class LayerCache:
    """One layer's keys and values, each (batch, kv_heads, length, head_dim)."""

    def __init__(self, keys: Tensor, values: Tensor) -> None:
        self.keys = keys
        self.values = values
        self.used = 0
        """Positions that are filled."""

    def extend(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Append (batch, kv_heads, new, head_dim) twice; return views of all that is filled."""
        end = self.used + keys.size(2)
        self.keys[:, :, self.used : end] = keys
        self.values[:, :, self.used : end] = values
        self.used = end
        return self.keys[:, :, :end], self.values[:, :, :end]


class KeyValueCache:
    """The caches of all layers, for `batch` rows of at most `length` positions."""

    def __init__(
        self,
        config: ModelConfig,
        *,
        batch: int,
        length: int,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        shape = (batch, config.num_key_value_heads, length, config.head_dim)

        def empty() -> Tensor:
            return torch.empty(shape, dtype=dtype, device=device)

        self.layers = [LayerCache(empty(), empty()) for _ in range(config.num_hidden_layers)]
