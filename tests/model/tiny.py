"""Small models and token rows that the tests of several rooms share."""

import torch
from torch import Tensor

from yxanul.config.schema import ModelConfig
from yxanul.model.transformer import Transformer

VOCAB = 199


def shape(**changes) -> ModelConfig:
    """A model of a few ten thousand parameters, with an odd vocabulary."""
    values = {
        "name": "tiny",
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 4,
        "head_dim": 16,
        "intermediate_size": 80,
        "vocab_size": VOCAB,
        "max_position_embeddings": 64,
        **changes,
    }
    return ModelConfig(**values)


def model_with_norms(config: ModelConfig, *, seed: int = 1, **options) -> Transformer:
    """A new model whose norms are not all zero, as they are at the start."""
    model = Transformer.initialised(config, seed=seed, **options)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("norm.weight"):
                parameter.copy_(0.1 * torch.randn(parameter.shape, generator=generator))
    return model


def rows(count: int, seq_len: int, *, vocab: int = VOCAB, seed: int = 7) -> tuple[Tensor, Tensor]:
    """Random inputs and their next tokens, each (count, seq_len) int64."""
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randint(0, vocab, (count, seq_len + 1), generator=generator)
    return tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous()


def gradients(model: Transformer) -> dict[str, Tensor]:
    """Copies of all gradients by name."""
    return {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


def difference(ours: Tensor, theirs: Tensor) -> float:
    """The largest difference, relative to the largest value of theirs."""
    return ((ours - theirs).abs().max() / theirs.abs().max()).item()
