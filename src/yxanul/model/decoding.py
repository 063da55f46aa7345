"""The model as it writes: the same numbers as `Transformer`'s, from fewer and larger products.

A new token costs one row of every product, so what counts is how often Python calls torch and how
fast matrices stream from memory. Matrices that multiply the same input are joined, once and not for
every token; what is the same for all layers (turning by position, what is hidden) is looked up
once for all. Weights are read only, in the type that the model computes in; there are no gradients.
"""

import math
from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor

from yxanul.model.attention import cached_attention
from yxanul.model.cache import KeyValueCache, LayerCache
from yxanul.model.layers import Block, RMSNorm
from yxanul.model.transformer import Transformer


@dataclass(frozen=True)
class _Layer:
    """A block's matrices, (out, in), and the factors of its norms, (hidden,) fp32."""

    before_attention: Tensor
    qkv: Tensor
    mix: Tensor
    before_mlp: Tensor
    gate_up: Tensor
    down: Tensor


class Decoder:
    """A model for reading and writing; its weights must stay as they are, for some are shared."""

    @torch.no_grad()
    def __init__(self, model: Transformer) -> None:
        self.config, dtype = model.config, model.compute_dtype
        blocks = [cast(Block, block) for block in model.layers]
        attention = blocks[0].self_attn
        self._embedding = model.embed_tokens.weight.to(dtype)
        self._embedding_scale = torch.tensor(math.sqrt(model.config.hidden_size), dtype=dtype)
        self._head = _streamed(self._embedding)
        self._layers = [_laid_out(block, dtype) for block in blocks]
        self._last_norm = _factors(model.norm)
        self._whole_attention = attention.attention
        # Turned is x * cos + x with its halves exchanged * sin; the sign is in the table.
        cos, sin = attention.rotary.cos, attention.rotary.sin
        self._cos = torch.cat((cos, cos), dim=-1).to(dtype).unsqueeze(1)
        self._sin = torch.cat((-sin, sin), dim=-1).to(dtype).unsqueeze(1)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self._embedding.device

    @property
    def dtype(self) -> torch.dtype:
        """The type that it computes in, and so that of keys and values."""
        return self._embedding.dtype

    @torch.no_grad()
    def hidden_states(self, tokens: Tensor, cache: KeyValueCache | None = None) -> Tensor:
        """(batch, seq) -> (batch, seq, hidden) after the final norm, in the compute type.

        With a cache the tokens go on where it ends, and it grows by them.
        """
        x = F.embedding(tokens, self._embedding) * self._embedding_scale
        at: slice | Tensor = slice(tokens.size(1))
        caches: list[LayerCache] | list[None] = [None] * len(self._layers)
        if cache is not None:
            at, caches = cache.advance(tokens).in_table, cache.layers
        turn = self._cos[at], self._sin[at]
        for layer, layer_cache in zip(self._layers, caches, strict=True):
            qkv = F.linear(self._normed(x, layer.before_attention), layer.qkv)
            x = x + F.linear(self._attended(qkv, turn, cache=layer_cache), layer.mix)
            gate, up = F.linear(self._normed(x, layer.before_mlp), layer.gate_up).chunk(2, dim=-1)
            x = x + F.linear(F.gelu(gate, approximate="tanh") * up, layer.down)
        return self._normed(x, self._last_norm)

    @torch.no_grad()
    def logits(self, hidden: Tensor) -> Tensor:
        """(..., hidden) -> (..., vocab)."""
        return F.linear(hidden, self._head)

    def next_logits(self, tokens: Tensor, cache: KeyValueCache) -> Tensor:
        """Read (batch, seq) tokens into the cache; return what follows the last, (batch, vocab)."""
        return self.logits(self.hidden_states(tokens, cache)[:, -1])

    def _normed(self, x: Tensor, factors: Tensor) -> Tensor:
        normed = F.rms_norm(x.float(), factors.shape, factors, self.config.rms_norm_eps)
        return normed.to(x.dtype)

    def _attended(
        self, qkv: Tensor, turn: tuple[Tensor, Tensor], *, cache: LayerCache | None
    ) -> Tensor:
        """(batch, seq, heads + 2 kv_heads, head_dim) in one row -> (batch, seq, hidden)."""
        c = self.config
        batch, seq, _ = qkv.shape
        heads, kv_heads = c.num_attention_heads, c.num_key_value_heads
        parts = qkv.view(batch, seq, heads + 2 * kv_heads, c.head_dim)
        straight = parts[:, :, : heads + kv_heads]
        exchanged = straight.roll(c.head_dim // 2, -1)
        turned = torch.addcmul(straight * turn[0], exchanged, turn[1]).transpose(1, 2)
        q, k = turned[:, :heads], turned[:, heads:]
        v = parts[:, :, heads + kv_heads :].transpose(1, 2)
        if cache is not None:
            out = cached_attention(q, *cache.extend(k, v), is_hidden=cache.place.is_hidden)
        else:
            repeats = heads // kv_heads
            out = self._whole_attention(
                q, k.repeat_interleave(repeats, 1), v.repeat_interleave(repeats, 1)
            )
        return out.transpose(1, 2).reshape(batch, seq, -1)


def _laid_out(block: Block, dtype: torch.dtype) -> _Layer:
    attention, mlp = block.self_attn, block.mlp
    qkv: list[Tensor] = [
        part.weight for part in (attention.q_proj, attention.k_proj, attention.v_proj)
    ]
    gate_up: list[Tensor] = [part.weight for part in (mlp.gate_proj, mlp.up_proj)]
    return _Layer(
        before_attention=_factors(block.input_layernorm),
        qkv=_streamed(torch.cat(qkv).to(dtype)),
        mix=attention.o_proj.weight.to(dtype),
        before_mlp=_factors(block.post_attention_layernorm),
        gate_up=_streamed(torch.cat(gate_up).to(dtype)),
        down=mlp.down_proj.weight.to(dtype),
    )


def _factors(norm: RMSNorm) -> Tensor:
    return 1.0 + norm.weight


def _streamed(weight: Tensor) -> Tensor:
    """Return a matrix (out, in) of more rows than columns in the order that streams fastest.

    In fp32 on a CPU that is column by column: one row by 50,257 x 256 takes 4.5 ms so and 10.6 ms
    row by row, 32 rows the same either way (AMD EPYC, MKL, one thread). In bf16 it is ten times as
    slow.
    """
    if weight.dtype == torch.float32 and weight.device.type == "cpu":
        return weight.t().contiguous().t()
    return weight
