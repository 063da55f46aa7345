"""How many numbers a model learns, from its shape alone.

The Gemma-1 block: four attention matrices, three GEGLU matrices, two RMS norms per layer; one final
norm; one embedding that is also the head. No biases. Counted without building the model.
"""

from __future__ import annotations

from dataclasses import dataclass

from yxanul.config.schema import ModelConfig


@dataclass(frozen=True, slots=True)
class ParameterCount:
    """Parameters by part; `total = embedding + non_embedding`."""

    embedding: int
    attention_per_layer: int
    ffn_per_layer: int
    norm: int
    layers: int

    @property
    def norms(self) -> int:
        """Parameters of all norms: two per layer and the final one."""
        return (2 * self.layers + 1) * self.norm

    @property
    def matrices_per_layer(self) -> int:
        """Parameters of the seven matrices of one layer: all of its matrix products."""
        return self.attention_per_layer + self.ffn_per_layer

    @property
    def matrices(self) -> int:
        """Parameters of all layers' matrices, without embedding and norms."""
        return self.layers * self.matrices_per_layer

    @property
    def non_embedding(self) -> int:
        """Everything but the embedding, which is also the head."""
        return self.matrices + self.norms

    @property
    def total(self) -> int:
        """Every learned number, the tied embedding once."""
        return self.embedding + self.non_embedding


def parameter_count(model: ModelConfig) -> ParameterCount:
    """Count the parameters of a shape; 302,882,304 for the flagship."""
    width, queries = model.hidden_size, model.num_attention_heads * model.head_dim
    keys = model.num_key_value_heads * model.head_dim
    return ParameterCount(
        embedding=model.vocab_size * width,
        attention_per_layer=width * queries + 2 * width * keys + queries * width,
        ffn_per_layer=3 * width * model.intermediate_size,
        norm=width,
        layers=model.num_hidden_layers,
    )
