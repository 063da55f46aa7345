"""nanoGPT's way of training, re-stated: GPT-2's block without biases, in nanoGPT's settings.

Learned positions, LayerNorm, GELU, torch's own attention, one full tensor of logits, weights in
fp32 under autocast (on a CPU plain fp32, its default), fused AdamW and torch.compile on a card, no
dropout, gradients clipped at 1. The vocabulary is padded to a multiple of 64, and the MLP is
widened from 4 hidden_size until the model has our number of parameters.
"""

from __future__ import annotations

import math
from contextlib import AbstractContextManager, nullcontext

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.steps.peer import accumulate, described
from yxanul.bench.workload import Batch, StepRun, Workload, time_steps
from yxanul.config.schema import ModelConfig
from yxanul.hardware.compiler import compile_obstacle

_VOCAB_MULTIPLE = 64
_RATE, _DECAY, _BETAS, _CLIP = 6e-4, 0.1, (0.9, 0.95), 1.0


class _Norm(nn.Module):
    def __init__(self, size: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))

    def forward(self, x: Tensor) -> Tensor:
        return F.layer_norm(x, self.weight.shape, self.weight)


class _Block(nn.Module):
    def __init__(self, shape: ModelConfig) -> None:
        super().__init__()
        hidden, inner = shape.hidden_size, mlp_size(shape)
        self.heads = shape.num_attention_heads
        self.before_attention, self.before_mlp = _Norm(hidden), _Norm(hidden)
        self.qkv = nn.Linear(hidden, 3 * hidden, bias=False)
        self.mixed = nn.Linear(hidden, hidden, bias=False)
        self.up = nn.Linear(hidden, inner, bias=False)
        self.down = nn.Linear(inner, hidden, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        heads = self.qkv(self.before_attention(x)).unflatten(-1, (3, self.heads, -1))
        q, k, v = heads.permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.mixed(attended.transpose(1, 2).flatten(-2))
        wider: Tensor = self.down(F.gelu(self.up(self.before_mlp(x))))
        return x + wider


class GPT(nn.Module):
    """The model; its head is its embedding."""

    def __init__(self, shape: ModelConfig, seq_len: int) -> None:
        super().__init__()
        vocab = -(-shape.vocab_size // _VOCAB_MULTIPLE) * _VOCAB_MULTIPLE
        self.tokens = nn.Embedding(vocab, shape.hidden_size)
        self.positions = nn.Embedding(seq_len, shape.hidden_size)
        self.blocks = nn.ModuleList(_Block(shape) for _ in range(shape.num_hidden_layers))
        self.norm = _Norm(shape.hidden_size)
        self.head = nn.Linear(shape.hidden_size, vocab, bias=False)
        self.head.weight = self.tokens.weight
        for name, parameter in self.named_parameters():
            if parameter.dim() == 2:
                is_output = name.endswith(("mixed.weight", "down.weight"))
                depth = 2 * shape.num_hidden_layers if is_output else 1
                nn.init.normal_(parameter, std=0.02 / math.sqrt(depth))

    def forward(self, tokens: Tensor, targets: Tensor) -> Tensor:
        """Return the mean loss of (rows, seq_len) targets, 0-D."""
        return F.cross_entropy(self.logits(tokens).flatten(0, 1), targets.flatten())

    def logits(self, tokens: Tensor) -> Tensor:
        """(rows, seq_len) -> (rows, seq_len, vocab)."""
        places = torch.arange(tokens.size(1), device=tokens.device)
        x = self.tokens(tokens) + self.positions(places)
        for block in self.blocks:
            x = block(x)
        logits: Tensor = self.head(self.norm(x))
        return logits


def mlp_size(shape: ModelConfig) -> int:
    """Return the width at which two matrices have the parameters of our three."""
    return 3 * shape.intermediate_size // 2


def adamw(model: nn.Module, device: torch.device) -> torch.optim.AdamW:
    """Return the optimizer: everything with two dimensions decays."""
    parameters = list(model.parameters())
    groups = [
        {"params": [p for p in parameters if p.dim() >= 2], "weight_decay": _DECAY},
        {"params": [p for p in parameters if p.dim() < 2], "weight_decay": 0.0},
    ]
    fused = device.type == "cuda" or None
    return torch.optim.AdamW(groups, lr=_RATE, betas=_BETAS, fused=fused)


def nanogpt(workload: Workload) -> StepRun:
    """Time updates; the workload's type counts on a card only."""
    device = workload.device
    compiled = device.type == "cuda" and compile_obstacle(device) is None
    torch.manual_seed(workload.seed)
    model = GPT(workload.model, workload.seq_len).to(device)
    optimizer = adamw(model, device)
    forward = torch.compile(model) if compiled else model

    def loss_of(tokens: Tensor, targets: Tensor) -> Tensor:
        with _precision(workload):
            loss: Tensor = forward(tokens, targets)
        return loss

    def step(batch: Batch) -> float:
        loss = accumulate(loss_of, batch, workload)
        nn.utils.clip_grad_norm_(model.parameters(), _CLIP)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return loss.item()

    precision = "" if device.type == "cuda" else ", fp32"
    name = "nanoGPT, compiled" if compiled else f"nanoGPT{precision}"
    return time_steps(described(name, model, workload), step, workload=workload)


def _precision(workload: Workload) -> AbstractContextManager[object]:
    if workload.device.type == "cpu":
        return nullcontext()
    return torch.autocast("cuda", dtype=workload.dtype)
