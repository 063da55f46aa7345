"""How long attention kernels take on a card, by its own clock."""

import statistics
from collections.abc import Callable

import torch
from torch import Tensor

from yxanul.config.schema import ModelConfig
from yxanul.model.attention import attention_path, document_layout

TIMED_TOKENS = 32_768
"""Tokens of the rows that a kernel is timed on, enough to fill a card; a longer row is one."""


def milliseconds(work: Callable[[], object], *, repeats: int = 20, warmup: int = 3) -> float:
    """Return the median time of `work` on the current CUDA device."""
    for _ in range(warmup):
        work()
    begins, ends = ([_event() for _ in range(repeats)] for _ in range(2))
    for begin, end in zip(begins, ends, strict=True):
        begin.record()
        work()
        end.record()
    torch.cuda.synchronize()
    return statistics.median(float(b.elapsed_time(e)) for b, e in zip(begins, ends, strict=True))


def _event() -> torch.cuda.Event:
    return torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]


def attention_ms(
    name: str,
    shape: ModelConfig,
    *,
    seq_len: int,
    device: torch.device,
    document_tokens: int | None = None,
) -> tuple[float, float]:
    """Return milliseconds of one layer in bf16: forward, and forward with backward.

    The input is `TIMED_TOKENS` tokens in rows of seq_len, laid out as the model does; where
    documents are kept apart, each has `document_tokens`, or a row if that is less.
    """
    size = (max(1, TIMED_TOKENS // seq_len), seq_len, shape.num_attention_heads, shape.head_dim)
    q, k, v = (
        torch.randn(size, device=device, dtype=torch.bfloat16, requires_grad=True) for _ in range(3)
    )
    slope = torch.randn(size, device=device, dtype=torch.bfloat16).transpose(1, 2)
    path, documents = attention_path(name), None
    if document_tokens is not None:
        tokens, each = size[0] * seq_len, min(document_tokens, seq_len)
        begins = [r + d for r in range(0, tokens, seq_len) for d in range(0, seq_len, each)]
        bounds = torch.tensor([*begins, tokens], dtype=torch.int32, device=device)
        documents = document_layout(name)(bounds, torch.Size(size[:2]))

    def forward() -> Tensor:
        return path(*(part.transpose(1, 2) for part in (q, k, v)), documents=documents)

    def both() -> tuple[Tensor, ...]:
        return torch.autograd.grad(forward(), (q, k, v), slope)

    return milliseconds(forward), milliseconds(both)
