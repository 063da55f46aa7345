"""The parts of one block: RMS norm, rotary positions, attention and the gated feed-forward layer.

This is the block of Gemma 1 (arXiv 2403.08295), so that an export is exact: norms scale by (1 +
weight), positions rotate the two halves of a head (arXiv 2104.09864), the gate is tanh-GELU (GEGLU,
arXiv 2002.05202), there are no biases. Weights are kept in fp32 and cast to the type of the
activations where they are used.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from yxanul.config.schema import ModelConfig
from yxanul.model.attention import Attention


class RMSNorm(nn.Module):
    """Root mean square normalisation in fp32, scaled by (1 + weight) (arXiv 1910.07467)."""

    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(size))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """(batch, seq, hidden) -> the same shape and type."""
        wide = x.float()
        scale = torch.rsqrt(wide.square().mean(-1, keepdim=True) + self.eps)
        return (wide * scale * (1.0 + self.weight)).to(x.dtype)


Product = Callable[[Tensor, Tensor], Tensor]
"""Multiplies x (..., in) by weight (out, in), both of one type, to (..., out)."""


class Linear(nn.Module):
    """A matrix without bias, (out, in) in fp32, applied in the type of its input."""

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__()
        self.product: Product = F.linear
        self.weight = nn.Parameter(torch.empty(out_features, in_features))

    def forward(self, x: Tensor) -> Tensor:
        """(..., in) -> (..., out)."""
        return self.product(x, self.weight.to(x.dtype))


class Rotary(nn.Module):
    """Tables of cosines and sines, computed again after every way of loading (never stored)."""

    cos: Tensor
    sin: Tensor

    def __init__(self, head_dim: int, max_positions: int, *, theta: float) -> None:
        super().__init__()
        # On the CPU by name: a model that is laid out without memory has its tables all the same.
        pairs = torch.arange(0, head_dim, 2, dtype=torch.float32, device="cpu")
        positions = torch.arange(max_positions, dtype=torch.float32, device="cpu")
        angle = torch.outer(positions, theta ** -(pairs / head_dim))
        self.register_buffer("cos", angle.cos(), persistent=False)
        self.register_buffer("sin", angle.sin(), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Rotate (batch, seq, heads, head_dim) by position; a pair is (i, i + head_dim / 2)."""
        cos = self.cos[: x.size(1)].unsqueeze(-2).to(x.dtype)
        sin = self.sin[: x.size(1)].unsqueeze(-2).to(x.dtype)
        first, second = x.chunk(2, dim=-1)
        return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)


class SelfAttention(nn.Module):
    """Causal self-attention with rotary positions; groups of query heads may share keys."""

    def __init__(self, config: ModelConfig, rotary: Rotary, *, attention: Attention) -> None:
        super().__init__()
        self.heads = config.num_attention_heads
        self.kv_heads = config.num_key_value_heads
        self.head_dim = config.head_dim
        self.q_proj = Linear(config.hidden_size, self.heads * self.head_dim)
        self.k_proj = Linear(config.hidden_size, self.kv_heads * self.head_dim)
        self.v_proj = Linear(config.hidden_size, self.kv_heads * self.head_dim)
        self.o_proj = Linear(self.heads * self.head_dim, config.hidden_size)
        self.product: Product = F.linear
        self.rotary = rotary
        self.attention = attention

    def forward(self, x: Tensor, *, documents: Tensor | None = None) -> Tensor:
        """(batch, seq, hidden) -> (batch, seq, hidden)."""
        batch, seq, _ = x.shape
        projections = (self.q_proj, self.k_proj, self.v_proj)
        qkv = self.product(x, torch.cat([one.weight.to(x.dtype) for one in projections]))
        heads = qkv.view(batch, seq, self.heads + 2 * self.kv_heads, self.head_dim)
        turned = self.rotary(heads[:, :, : self.heads + self.kv_heads])
        q = turned[:, :, : self.heads].transpose(1, 2)
        k = turned[:, :, self.heads :].transpose(1, 2)
        v = heads[:, :, self.heads + self.kv_heads :].transpose(1, 2)
        if self.kv_heads != self.heads:
            repeats = self.heads // self.kv_heads
            k, v = k.repeat_interleave(repeats, 1), v.repeat_interleave(repeats, 1)
        out = self.attention(q, k, v, documents=documents)
        mixed: Tensor = self.o_proj(out.transpose(1, 2).reshape(batch, seq, -1))
        return mixed


class GatedMLP(nn.Module):
    """GEGLU: down(gelu(gate(x)) * up(x)), with the tanh form of GELU."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.gate_proj = Linear(config.hidden_size, config.intermediate_size)
        self.up_proj = Linear(config.hidden_size, config.intermediate_size)
        self.down_proj = Linear(config.intermediate_size, config.hidden_size)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, seq, hidden) -> (batch, seq, hidden)."""
        gate = F.gelu(self.gate_proj(x), approximate="tanh")
        out: Tensor = self.down_proj(gate * self.up_proj(x))
        return out


class Block(nn.Module):
    """One layer: normalise, attend, add; normalise, feed forward, add."""

    def __init__(self, config: ModelConfig, rotary: Rotary, *, attention: Attention) -> None:
        super().__init__()
        self.input_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.self_attn = SelfAttention(config, rotary, attention=attention)
        self.post_attention_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.mlp = GatedMLP(config)

    def forward(self, x: Tensor, *, documents: Tensor | None = None) -> Tensor:
        """(batch, seq, hidden) -> (batch, seq, hidden).

        `documents` are as `document_layout` lays them out; None: a row is one.
        """
        attended: Tensor = x + self.self_attn(self.input_layernorm(x), documents=documents)
        out: Tensor = attended + self.mlp(self.post_attention_layernorm(attended))
        return out
