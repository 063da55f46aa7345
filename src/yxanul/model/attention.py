"""Causal attention, in the ways that are fast on different machines, all with one result.

`plain` multiplies and normalises in the compute type and holds the (seq, seq) scores of one layer:
on a CPU it is about twice as fast as the flash kernel up to 1,024 tokens, so `by_length` takes it
for rows up to there. The others are PyTorch's
scaled dot product attention with a pinned kernel. Which one a run uses is decided once, by
`yxanul.hardware`, and frozen; nothing here falls back. Generation has `cached_attention`.

What a query may not look at is what comes after it and, where rows hold several documents and each
is to see itself only, what lies in others. `document_layout` says how a path is told of them.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from yxanul.config.optimization import CARD_PATHS, MASKLESS, PLAIN_UP_TO
from yxanul.model.flash import as_bounds, flash_attention, use_version


class Attention(Protocol):
    """(batch, heads, seq, head_dim) three times -> (batch, heads, seq, head_dim)."""

    def __call__(
        self, q: Tensor, k: Tensor, v: Tensor, *, documents: Tensor | None = None
    ) -> Tensor:
        """Attend to all keys up to each query's place, within its document where they are told."""


_KERNELS = {
    "cudnn": SDPBackend.CUDNN_ATTENTION,
    "efficient": SDPBackend.EFFICIENT_ATTENTION,
}
PATHS = ("plain", "sdpa", "by_length", *CARD_PATHS)
Layout = Callable[[Tensor, torch.Size], Tensor]
"""(bounds of documents, (batch, seq) of their rows) -> what a path takes as `documents`."""


def attention_path(name: str) -> Attention:
    """Return the attention function of that name.

    The last of flash and flash3 that was asked for is what both are in this process. flash3 that
    cannot be loaded raises whatever its module does.
    """
    if name == "plain":
        return plain_attention
    if name == "sdpa":
        return _sdpa
    if name == "by_length":
        return _by_length
    if name in MASKLESS:
        use_version(3 if name == "flash3" else 2)
        return flash_attention
    kernel = _KERNELS[name]

    def pinned(q: Tensor, k: Tensor, v: Tensor, *, documents: Tensor | None = None) -> Tensor:
        if k.size(-2) == 1:
            return v  # a token by itself sees itself alone, and cuDNN has no kernel for one key
        with sdpa_kernel([kernel]):
            return _sdpa(q, k, v, documents=documents)

    return pinned


def document_layout(name: str) -> Layout:
    """Return how the attention path of that name is told of documents: by their bounds or a mask.

    The bounds, (documents + 1,) int32, are where each begins in the rows laid end to end, and their
    end.
    """
    return (lambda bounds, _: as_bounds(bounds)) if name in MASKLESS else hidden_of_others


def plain_attention(q: Tensor, k: Tensor, v: Tensor, *, documents: Tensor | None = None) -> Tensor:
    """Softmax attention by two matrix products; scores are (batch, heads, seq, seq).

    `documents`, (batch, 1, seq, seq) bool, are what is not looked at.
    """
    # Scores are the largest tensors here: what can be done to q, or where they lie, is.
    scores = (q * q.size(-1) ** -0.5) @ k.transpose(-2, -1)
    if documents is None:
        scores += _causal_bias(q.size(-2), dtype=q.dtype, device=q.device)
    else:
        scores.masked_fill_(documents, float("-inf"))
    return torch.softmax(scores, dim=-1) @ v


def hidden_of_others(bounds: Tensor, shape: torch.Size) -> Tensor:
    """Return what no query may look at in rows of several documents, (batch, 1, seq, seq) bool.

    bounds are as `document_layout` says, shape is (batch, seq).
    """
    begins = torch.zeros(shape.numel(), dtype=torch.int32, device=bounds.device)
    begins[bounds[:-1].long()] = 1
    number = begins.cumsum(0).view(shape)
    others = number.unsqueeze(2) != number.unsqueeze(1)
    later = torch.ones(shape[1], shape[1], dtype=torch.bool, device=bounds.device).triu(1)
    return (others | later).unsqueeze(1)


def cached_attention(q: Tensor, k: Tensor, v: Tensor, *, is_hidden: Tensor | None) -> Tensor:
    """Attend from the newest positions to all of them but those that `is_hidden`.

    q is (batch, heads, new, head_dim), k and v are (batch, kv_heads, seen, head_dim), is_hidden
    is (batch or 1, 1, new, seen) bool. Heads that share keys are rows of one product, so that
    nothing is repeated.
    """
    heads, new = q.shape[1:3]
    kv_heads, seen = k.shape[1:3]
    if new == 1 and q.device.type == "cpu":
        # One call instead of five: a quarter of the time for one row, the same for 32. Not on a
        # card: cuDNN, which torch asks first on an H100, plans anew for every number of keys.
        seen_by = None if is_hidden is None else ~is_hidden
        shared = kv_heads != heads
        return F.scaled_dot_product_attention(q, k, v, attn_mask=seen_by, enable_gqa=shared)
    scores = q.reshape(-1, kv_heads, heads // kv_heads * new, q.size(-1)) @ k.transpose(-2, -1)
    scores = scores.view(-1, heads, new, seen) * q.size(-1) ** -0.5
    if is_hidden is not None:
        scores.masked_fill_(is_hidden, float("-inf"))
    out = torch.softmax(scores, dim=-1).view(-1, kv_heads, heads // kv_heads * new, seen) @ v
    return out.view(q.shape)


def _by_length(q: Tensor, k: Tensor, v: Tensor, *, documents: Tensor | None = None) -> Tensor:
    path = plain_attention if q.size(-2) <= PLAIN_UP_TO else _sdpa
    return path(q, k, v, documents=documents)


def _sdpa(q: Tensor, k: Tensor, v: Tensor, *, documents: Tensor | None = None) -> Tensor:
    if documents is None:
        return F.scaled_dot_product_attention(q, k, v, is_causal=True)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=~documents)


def _causal_bias(seq: int, *, dtype: torch.dtype, device: torch.device) -> Tensor:
    """(queries, keys): 0 where the key is not after the query, -inf where it is."""
    # A compiled graph makes it within a kernel; Dynamo looks through a cache, and warns of it.
    make = _made_bias if torch.compiler.is_compiling() else _kept_bias
    return make(seq, dtype=dtype, device=device)


def _made_bias(seq: int, *, dtype: torch.dtype, device: torch.device) -> Tensor:
    return torch.full((seq, seq), float("-inf"), dtype=dtype, device=device).triu(1)


_kept_bias = lru_cache(maxsize=16)(_made_bias)
