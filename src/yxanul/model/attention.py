"""Causal attention, in the ways that are fast on different machines, all with one result.

`plain` multiplies and normalises in the compute type and holds the (seq, seq) scores of one layer:
on a CPU it is about twice as fast as the flash kernel up to 1,024 tokens. The others are PyTorch's
scaled dot product attention with a pinned kernel. Which one a run uses is decided once, by
`yxanul.hardware`, and frozen; nothing here falls back. Generation has `cached_attention`.

What a query may not look at is what comes after it, or, where rows hold several documents and each
is to see itself only, what `hidden` says: (batch, 1, queries, keys) bool.
"""

from functools import lru_cache
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel


class Attention(Protocol):
    """(batch, heads, seq, head_dim) three times -> (batch, heads, seq, head_dim)."""

    def __call__(self, q: Tensor, k: Tensor, v: Tensor, *, hidden: Tensor | None = None) -> Tensor:
        """Attend to all keys up to each query's place, or to all that are not hidden."""


_KERNELS = {
    "cudnn": SDPBackend.CUDNN_ATTENTION,
    "flash": SDPBackend.FLASH_ATTENTION,
    "efficient": SDPBackend.EFFICIENT_ATTENTION,
}

PATHS = ("plain", "sdpa", *_KERNELS)


def attention_path(name: str) -> Attention:
    """Return the attention function called `name`, one of `PATHS`."""
    if name == "plain":
        return plain_attention
    if name == "sdpa":
        return _sdpa
    kernel = _KERNELS[name]

    def pinned(q: Tensor, k: Tensor, v: Tensor, *, hidden: Tensor | None = None) -> Tensor:
        with sdpa_kernel([kernel]):
            return _sdpa(q, k, v, hidden=hidden)

    return pinned


def plain_attention(q: Tensor, k: Tensor, v: Tensor, *, hidden: Tensor | None = None) -> Tensor:
    """Softmax attention by two matrix products; scores are (batch, heads, seq, seq)."""
    scores = (q @ k.transpose(-2, -1)) * q.size(-1) ** -0.5
    if hidden is None:
        scores = scores + _causal_bias(q.size(-2), dtype=q.dtype, device=q.device)
    else:
        scores = scores.masked_fill(hidden, float("-inf"))
    return torch.softmax(scores, dim=-1) @ v


def hidden_of_others(documents: Tensor) -> Tensor:
    """Return what no query may look at in rows of several documents, (batch, 1, seq, seq) bool.

    documents (batch, seq) are the number of each token's document in its row.
    """
    seq = documents.size(1)
    others = documents.unsqueeze(2) != documents.unsqueeze(1)
    later = torch.ones(seq, seq, dtype=torch.bool, device=documents.device).triu(1)
    return (others | later).unsqueeze(1)


def cached_attention(q: Tensor, k: Tensor, v: Tensor, *, is_hidden: Tensor | None) -> Tensor:
    """Attend from the newest positions to all of them but those that `is_hidden`.

    q is (batch, heads, new, head_dim), k and v are (batch, kv_heads, seen, head_dim), is_hidden
    is (batch or 1, 1, new, seen) bool. Heads that share keys are rows of one product, so that
    nothing is repeated.
    """
    heads, new = q.shape[1:3]
    kv_heads, seen = k.shape[1:3]
    if new == 1:
        # One call instead of five: a quarter of the time for one row on a CPU, the same for 32.
        seen_by = None if is_hidden is None else ~is_hidden
        shared = kv_heads != heads
        return F.scaled_dot_product_attention(q, k, v, attn_mask=seen_by, enable_gqa=shared)
    scores = q.reshape(-1, kv_heads, heads // kv_heads * new, q.size(-1)) @ k.transpose(-2, -1)
    scores = scores.view(-1, heads, new, seen) * q.size(-1) ** -0.5
    if is_hidden is not None:
        scores.masked_fill_(is_hidden, float("-inf"))
    out = torch.softmax(scores, dim=-1).view(-1, kv_heads, heads // kv_heads * new, seen) @ v
    return out.view(q.shape)


def _sdpa(q: Tensor, k: Tensor, v: Tensor, *, hidden: Tensor | None = None) -> Tensor:
    if hidden is None:
        return F.scaled_dot_product_attention(q, k, v, is_causal=True)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=~hidden)


@lru_cache(maxsize=16)
def _causal_bias(seq: int, *, dtype: torch.dtype, device: torch.device) -> Tensor:
    """(queries, keys): 0 where the key is not after the query, -inf where it is."""
    return torch.full((seq, seq), float("-inf"), dtype=dtype, device=device).triu(1)
