"""FlashAttention: torch's own version 2 (arXiv 2307.08691), or version 3 (2407.08608) in its place.

Both see the whole row or, where documents share one, each document by itself: the rows are read end
to end as sequences of unequal length, and nothing is computed of what a token may not look at.
"""

import warnings

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import (
    SDPBackend,
    activate_flash_attention_impl,
    current_flash_attention_impl,
    restore_flash_attention_impl,
    sdpa_kernel,
)

_VERSION_3 = "FA3"


def use_version(number: int) -> None:
    """Make FlashAttention 2, torch's own, or 3 the kernel behind `flash_attention`.

    This holds for the whole process. Version 3 that cannot be loaded raises whatever its module
    does.
    """
    if number == 3:
        with warnings.catch_warnings():
            # A build for CUDA warns that its own kernels are overridden, which is what is meant.
            warnings.filterwarnings("ignore", message="Warning only once for all operators")
            activate_flash_attention_impl(_VERSION_3)
    elif current_flash_attention_impl() is not None:
        restore_flash_attention_impl()


def flash_attention(q: Tensor, k: Tensor, v: Tensor, *, documents: Tensor | None = None) -> Tensor:
    """Causal attention by that kernel or an error, (batch, heads, seq, head_dim), bf16 or fp16.

    `documents`, (documents + 1,) int32, are where each document begins in the rows laid end to end,
    and their end.
    """
    if documents is not None:
        return _within_documents(q, k, v, bounds=documents)
    with sdpa_kernel([SDPBackend.FLASH_ATTENTION]):
        return F.scaled_dot_product_attention(q, k, v, is_causal=True)


def as_bounds(documents: Tensor) -> Tensor:
    """Return the bounds of documents so that a compiled graph takes any number of them."""
    torch._dynamo.mark_dynamic(documents, 0)
    return documents


def _within_documents(q: Tensor, k: Tensor, v: Tensor, *, bounds: Tensor) -> Tensor:
    from torch.nn.attention.varlen import varlen_attn  # it loads torch's compiler: seconds

    batch, heads, seq, size = q.shape
    q, k, v = (part.transpose(1, 2).reshape(batch * seq, heads, size) for part in (q, k, v))
    # No document is longer than a row. A window that reaches to nothing on the right is causal.
    out = varlen_attn(q, k, v, bounds, bounds, seq, seq, window_size=(-1, 0))
    assert isinstance(out, Tensor)  # it returns two where the sums are asked for as well
    return out.view(batch, seq, heads, size).transpose(1, 2)
