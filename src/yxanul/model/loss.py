"""Cross-entropy over the vocabulary in chunks of tokens: no (batch, seq, vocab) tensor ever exists.

Each chunk's gradient is formed while its logits are at hand, so the head is multiplied three times
(logits, gradient of the hidden states, gradient of the weight) and never again in the backward
pass. Sums are fp32.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from yxanul.config.tokens import IGNORED

# Rows of logits that a CPU works on at once: 26 MB in bf16 stay in its last cache between passes.
_CPU_ROWS = 256
# Rows of the head are a multiple of this: 50,257 columns fit none of a card's fast products, and
# rows of logits of that many numbers begin where a CPU's products in fp32 write a third slower.
_HEAD_ROWS = 128


def chunked_cross_entropy(
    hidden: Tensor, weight: Tensor, *, targets: Tensor, chunk_tokens: int
) -> Tensor:
    """Return the sum of nats over all targets that are not `IGNORED`, a 0-D fp32 tensor.

    hidden (tokens, hidden) in the compute type, weight (vocab, hidden) in fp32, targets (tokens,)
    int64. At most (chunk_tokens, vocab) logits are held.
    """
    apply: Callable[..., Tensor] = _ChunkedCrossEntropy.apply
    return apply(hidden, weight, targets, chunk_tokens)


@torch.no_grad()
def token_nats(hidden: Tensor, weight: Tensor, *, targets: Tensor, chunk_tokens: int) -> Tensor:
    """Return the nats of every target, (tokens,) fp32, without gradients; 0 where `IGNORED`."""
    head = _head(weight, dtype=hidden.dtype)
    logits = hidden.new_empty(min(chunk_tokens, hidden.size(0)), head.size(0))
    parts = [
        _target_nats(
            rows, head, targets=wanted, logits=logits[: rows.size(0)], vocab=weight.size(0)
        )
        for rows, wanted in zip(
            torch.split(hidden, chunk_tokens), torch.split(targets, chunk_tokens), strict=True
        )
    ]
    return torch.cat(parts)


class _ChunkedCrossEntropy(torch.autograd.Function):
    """Loss and its gradients in one pass; backward only scales them, once."""

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor, chunk_tokens: int
    ) -> Tensor:
        head = _head(weight, dtype=hidden.dtype)
        vocab = weight.size(0)
        total = torch.zeros((), dtype=torch.float32, device=hidden.device)
        wants_gradient = ctx.needs_input_grad[0] or ctx.needs_input_grad[1]
        grad_hidden = torch.empty_like(hidden) if wants_gradient else None
        grad_weight: Tensor | None = None
        buffer = hidden.new_empty(min(chunk_tokens, hidden.size(0)), head.size(0))
        for start in range(0, hidden.size(0), chunk_tokens):
            span = slice(start, start + chunk_tokens)
            rows, wanted = hidden[span], targets[span]
            logits = buffer[: rows.size(0)]
            nats = _target_nats(rows, head, targets=wanted, logits=logits, vocab=vocab)
            total += nats.sum()
            if grad_hidden is not None:
                # The gradient of the logits is the probabilities less one at the targets. Written
                # by index: scatter_add_ in bf16 copies the chunk, 20 % of a step on a CPU.
                at = torch.arange(rows.size(0), device=rows.device), wanted.clamp(min=0)
                logits[at] -= 1.0
                # Ignored rows are zeroed in the hidden states, which are narrow, and not in the
                # logits; asking whether there are any would make a GPU wait.
                keep = (wanted != IGNORED).unsqueeze(1)
                torch.mm(logits, head, out=grad_hidden[span])
                grad_hidden[span].mul_(keep)
                grad_weight = _with_product(
                    grad_weight, left=logits.T, right=rows * keep, vocab=vocab
                )
        # Not save_for_backward: the backward pass scales them where they lie, so it has them once.
        ctx.gradients = grad_hidden, grad_weight
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_total: Tensor) -> tuple[Tensor, Tensor, None, None]:
        if ctx.gradients is None:
            raise RuntimeError(
                "the chunked loss gives its gradients once; compute it again for a second backward"
            )
        (grad_hidden, grad_weight), ctx.gradients = ctx.gradients, None
        # In fp32, or a bf16 factor would scale the trunk's gradients otherwise than the head's.
        scaled = grad_hidden.float().mul_(grad_total).to(grad_hidden.dtype)
        # In place: a second one of the head's size would be held in every micro-batch.
        return scaled, grad_weight.mul_(grad_total), None, None


def _with_product(total: Tensor | None, *, left: Tensor, right: Tensor, vocab: int) -> Tensor:
    """Return total (vocab, hidden), fp32, plus the first rows of a product.

    left (vocab or more, tokens), right (tokens, hidden). Without a total it is the product, and not
    added to zeros: the gradient of the head is the largest tensor of a step. In bf16 all rows are
    multiplied: a CPU needs a third longer for 50,257 of them than for a multiple of 128.
    """
    if right.dtype == torch.float32:
        left = left[:vocab]
        # Added within the product, nothing of its size is held beside it.
        return left @ right if total is None else torch.addmm(total, left, right, out=total)
    product = (left @ right)[:vocab]
    return product.float() if total is None else total.add_(product)


def _head(weight: Tensor, *, dtype: torch.dtype) -> Tensor:
    """Return the weight (vocab, hidden) in `dtype`, with rows of zeros added."""
    rows = weight.size(0)
    head = weight.new_empty(rows + -rows % _HEAD_ROWS, weight.size(1), dtype=dtype)
    head[:rows].copy_(weight)  # cast and laid out in one pass
    head[rows:].zero_()
    return head


def _target_nats(
    hidden: Tensor, head: Tensor, *, targets: Tensor, logits: Tensor, vocab: int
) -> Tensor:
    """Return each target's nats, fp32, at most 87, where fp32 ends; 0 where `IGNORED`.

    hidden (tokens, hidden), head (vocab or more, hidden); `logits` (tokens, rows of the head) is
    filled with the probabilities, 0 beyond vocab. In bf16 they are rounded, by 0.4 % at most, less
    than bf16 logits are.
    """
    block = _CPU_ROWS if hidden.device.type == "cpu" else max(1, hidden.size(0))
    for start in range(0, hidden.size(0), block):
        part = logits[start : start + block]
        torch.mm(hidden[start : start + block], head.T, out=part)
        part[:, vocab:] = float("-inf")
        # One softmax kernel (fp32 inside) is the cheapest pass over the vocabulary that gives both
        # loss and gradient.
        torch.softmax(part, dim=1, out=part)
    row = torch.arange(hidden.size(0), device=hidden.device)
    chosen = logits[row, targets.clamp(min=0)].float()
    return -chosen.clamp(min=torch.finfo(torch.float32).tiny).log() * (targets != IGNORED)
