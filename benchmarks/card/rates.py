"""Ceilings, measured: matrix products of several shapes, copies, kernels of attention, the loss."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from benchmarks.card.section import Row, Work
from yxanul.config.schema import ModelConfig
from yxanul.hardware.choices import flash3_obstacle
from yxanul.model.loss import chunked_cross_entropy
from yxanul.train.probing.timing import TIMED_TOKENS, attention_ms, milliseconds

_KERNELS = ("cudnn", "flash", "flash3", "efficient", "plain")


def products(shape: ModelConfig, device: torch.device) -> Iterator[tuple[Row, Work]]:
    """Yield the rate of bf16 products: a large one, the model's own, the head's with padding."""
    tokens, hidden = 32_768, shape.hidden_size
    inner, vocab = shape.intermediate_size, shape.vocab_size
    padded = -(-vocab // 128) * 128
    cases = [
        ("large", 8192, 8192, 8192),
        ("queries, keys, values", tokens, hidden, 3 * hidden),
        ("gate or up", tokens, hidden, inner),
        ("down", tokens, inner, hidden),
        (f"head, {vocab:,} rows", 8192, hidden, vocab),
        (f"head, {padded:,} rows", 8192, hidden, padded),
    ]
    for name, rows, inside, columns in cases:

        def work(rows: int = rows, inside: int = inside, columns: int = columns) -> Row:
            left = torch.randn(rows, inside, device=device, dtype=torch.bfloat16)
            right = torch.randn(columns, inside, device=device, dtype=torch.bfloat16)
            ms = milliseconds(lambda: left @ right.T)
            return {"ms": ms, "TFLOP/s": 2 * rows * inside * columns / ms / 1e9}

        yield {"product": name, "m, k, n": f"{rows}, {inside}, {columns}"}, work


def copies(device: torch.device) -> Iterator[tuple[Row, Work]]:
    """Yield the bandwidth of a copy on the card, bytes read plus bytes written."""

    def work() -> Row:
        source = torch.empty(2**31, dtype=torch.uint8, device=device).random_()
        target = torch.empty_like(source)
        ms = milliseconds(lambda: target.copy_(source))
        return {"ms": ms, "GB/s": 2 * source.numel() / ms / 1e6}

    yield {"copy": "2 GiB"}, work


def attention_kernels(shape: ModelConfig, device: torch.device) -> Iterator[tuple[Row, Work]]:
    """Yield each kernel's time, forward and backward, in rows of several lengths."""
    for seq_len in (512, 1024, 2048, 4096):
        for name in _KERNELS:
            if name == "plain" and seq_len > 1024:
                continue  # its scores alone would fill the card

            def work(seq_len: int = seq_len, name: str = name) -> Row:
                obstacle = flash3_obstacle(device) if name == "flash3" else None
                if obstacle is not None:
                    return {"not measured": obstacle}
                forward, both = attention_ms(name, shape, seq_len=seq_len, device=device)
                width = shape.num_attention_heads * shape.head_dim
                causal = 6 * width * seq_len * TIMED_TOKENS
                return {
                    "forward ms": forward,
                    "both ms": both,
                    "TFLOP/s (causal)": causal / both / 1e9,
                }

            yield {"seq_len": seq_len, "kernel": name}, work


def losses(shape: ModelConfig, device: torch.device) -> Iterator[tuple[Row, Work]]:
    """Yield the time and memory of the loss over 32,768 tokens, forward and backward, by chunk."""
    for chunk in (1024, 2048, 4096, 8192, 16_384, 32_768):

        def work(chunk: int = chunk) -> Row:
            hidden = torch.randn(
                32_768, shape.hidden_size, device=device, dtype=torch.bfloat16, requires_grad=True
            )
            weight = torch.randn(
                shape.vocab_size, shape.hidden_size, device=device, requires_grad=True
            )
            targets = torch.randint(shape.vocab_size, (32_768,), device=device)

            def both() -> tuple[Tensor, ...]:
                nats = chunked_cross_entropy(hidden, weight, targets=targets, chunk_tokens=chunk)
                return torch.autograd.grad(nats, (hidden, weight))

            torch.cuda.reset_peak_memory_stats(device)
            held = torch.cuda.memory_allocated(device)
            ms = milliseconds(both, repeats=10)
            peak = torch.cuda.max_memory_allocated(device) - held
            flops = 6 * 32_768 * shape.hidden_size * shape.vocab_size
            return {"ms": ms, "TFLOP/s": flops / ms / 1e9, "peak GiB": peak / 2**30}

        yield {"chunk_tokens": chunk}, work
