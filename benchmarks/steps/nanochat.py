"""nanochat's way of training, re-stated: its block, its settings and its two optimizers.

relu^2 MLP of 4 hidden_size, queries and keys normalised and sharpened by 1.2, rotary positions,
RMS norms without weights, scaled residual and embedding streams, an untied head under a soft cap of
15, one full fp32 tensor of logits; weights in fp32 cast to the workload's type where they are used,
embedding in that type, no clipping. Model and Muon are compiled, on a CPU as on a card, where there
is a compiler.

Left out, all in nanochat's favour in time: value embeddings (51M more parameters at the nano
shape), smearing, backing out the middle layer. Attention sees the whole row, as nanochat advises
without FlashAttention 3.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.steps.nanochat_optimizers import chat_optimizers
from benchmarks.steps.peer import accumulate, described
from yxanul.bench.workload import Batch, StepRun, Workload, time_steps
from yxanul.config.schema import ModelConfig
from yxanul.hardware.compiler import compile_obstacle

_VOCAB_MULTIPLE = 64
_THETA = 100_000.0
_SOFT_CAP = 15.0
_SHARPER = 1.2


class _Linear(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight.to(x.dtype))


def _norm(x: Tensor) -> Tensor:
    return F.rms_norm(x, (x.size(-1),))


class _Block(nn.Module):
    def __init__(self, shape: ModelConfig) -> None:
        super().__init__()
        hidden = shape.hidden_size
        self.heads = shape.num_attention_heads
        self.q, self.k, self.v, self.mixed = (_Linear(hidden, hidden, bias=False) for _ in range(4))
        self.up = _Linear(hidden, 4 * hidden, bias=False)
        self.down = _Linear(4 * hidden, hidden, bias=False)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        around = _norm(x)
        q, k, v = (
            part(around).unflatten(-1, (self.heads, -1)) for part in (self.q, self.k, self.v)
        )
        q, k = (_SHARPER * _norm(_turned(part, cos, sin)) for part in (q, k))
        q, k, v = (part.transpose(1, 2) for part in (q, k, v))
        attended = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.mixed(attended.transpose(1, 2).flatten(-2))
        wider: Tensor = self.down(F.relu(self.up(_norm(x))).square())
        return x + wider


def _turned(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    first, second = x.chunk(2, dim=-1)
    return torch.cat((first * cos + second * sin, second * cos - first * sin), dim=-1)


class Chat(nn.Module):
    """The model; matrices are in `blocks`."""

    cos: Tensor
    sin: Tensor

    def __init__(self, shape: ModelConfig, seq_len: int, *, dtype: torch.dtype) -> None:
        super().__init__()
        hidden, layers = shape.hidden_size, shape.num_hidden_layers
        self.vocab = shape.vocab_size
        padded = -(-self.vocab // _VOCAB_MULTIPLE) * _VOCAB_MULTIPLE
        self.tokens = nn.Embedding(padded, hidden)
        self.blocks = nn.ModuleList(_Block(shape) for _ in range(layers))
        self.head = _Linear(hidden, padded, bias=False)
        self.residual = nn.Parameter(torch.linspace(1.15, 1.05, layers))
        self.embedded = nn.Parameter(torch.linspace(0.20, 0.05, layers))
        self._start(hidden)
        self.tokens.to(dtype)
        head_dim = hidden // shape.num_attention_heads
        speed = _THETA ** -(torch.arange(0, head_dim, 2, dtype=torch.float32) / head_dim)
        angle = torch.outer(torch.arange(seq_len, dtype=torch.float32), speed).unsqueeze(1)
        self.register_buffer("cos", angle.cos().to(dtype), persistent=False)
        self.register_buffer("sin", angle.sin().to(dtype), persistent=False)

    def _start(self, hidden: int) -> None:
        nn.init.normal_(self.tokens.weight, std=0.8)
        nn.init.normal_(self.head.weight, std=0.001)
        bound = math.sqrt(3 / hidden)
        for name, matrix in self.blocks.named_parameters():
            if name.endswith(("mixed.weight", "down.weight")):
                nn.init.zeros_(matrix)
            else:
                factor = 0.4 if name.endswith("up.weight") else 1.0
                nn.init.uniform_(matrix, -factor * bound, factor * bound)

    def forward(self, tokens: Tensor, targets: Tensor) -> Tensor:
        """Return the mean loss of (rows, seq_len) targets, 0-D."""
        return F.cross_entropy(self.logits(tokens).flatten(0, 1), targets.flatten())

    def logits(self, tokens: Tensor) -> Tensor:
        """(rows, seq_len) -> (rows, seq_len, vocab) fp32."""
        cos, sin = (table[: tokens.size(1)] for table in (self.cos, self.sin))
        x = first = _norm(self.tokens(tokens))
        for number, block in enumerate(self.blocks):
            x = self.residual[number].to(x.dtype) * x + self.embedded[number].to(x.dtype) * first
            x = block(x, cos, sin)
        logits = self.head(_norm(x))[..., : self.vocab].float()
        return _SOFT_CAP * torch.tanh(logits / _SOFT_CAP)


def nanochat(workload: Workload) -> StepRun:
    """Time updates in the workload's type."""
    compiled = compile_obstacle(workload.device) is None
    torch.manual_seed(workload.seed)
    model = Chat(workload.model, workload.seq_len, dtype=workload.dtype).to(workload.device)
    both = chat_optimizers(model, workload, compiled=compiled)
    forward = torch.compile(model, dynamic=False) if compiled else model

    def step(batch: Batch) -> float:
        loss = accumulate(forward, batch, workload)
        for optimizer in both:
            optimizer.step()
        model.zero_grad(set_to_none=True)
        return loss.item()

    name = "nanochat, compiled" if compiled else "nanochat"
    return time_steps(described(name, model, workload), step, workload=workload)
