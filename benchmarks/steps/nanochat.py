"""nanochat's way of training, re-stated: its block, its settings and its two optimizers.

relu^2 MLP of 4 hidden_size, queries and keys normalised and sharpened by 1.2, rotary positions,
RMS norms without weights, scaled residual and embedding streams, an untied head under a soft cap of
15, one full fp32 tensor of logits; weights in fp32 cast to the workload's type where they are used,
embedding in that type, no clipping. Muon for the matrices (stacked by shape; rows evened out, an
orthogonal direction, rows scaled by their running size, decay only where it agrees with the update)
and AdamW for the rest. On a card model and Muon are compiled.

Left out, all in nanochat's favour in time: value embeddings (51M more parameters at the nano
shape), smearing, backing out the middle layer. Attention sees the whole row, as nanochat advises
without FlashAttention 3. The direction's quintic is our own; nanochat's has other factors and as
many products.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.steps.peer import accumulate, described
from yxanul.bench.workload import Batch, StepRun, Workload, time_steps
from yxanul.config.schema import ModelConfig
from yxanul.optim.muon import orthogonalise

_VOCAB_MULTIPLE = 64
_THETA = 100_000.0
_SOFT_CAP = 15.0
_SHARPER = 1.2
_MUON = {"lr": 0.02, "momentum": 0.95, "beta2": 0.9, "weight_decay": 0.28}
_HEAD = {"lr": 0.008, "betas": (0.8, 0.96), "weight_decay": 0.01}
_EMBEDDING = {"lr": 0.3, "betas": (0.8, 0.995), "weight_decay": 0.001}
_RESIDUAL = {"lr": 0.005, "betas": (0.8, 0.95), "weight_decay": 0.05}
_EMBEDDED = {"lr": 0.5, "betas": (0.96, 0.95), "weight_decay": 0.0}
# Its rates are those of a batch of 524,288 tokens and a hidden_size of 768.
_BATCH, _HIDDEN = 524_288, 768


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
        attended = F.scaled_dot_product_attention(
            *(part.transpose(1, 2) for part in (q, k, v)), is_causal=True
        )
        x = x + self.mixed(attended.transpose(1, 2).flatten(-2))
        return x + self.down(F.relu(self.up(_norm(x))).square())


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


class Muon(torch.optim.Optimizer):
    """Muon on stacks of equal matrices, as nanochat does it."""

    def __init__(self, matrices: list[nn.Parameter], *, dtype: torch.dtype, compiled: bool) -> None:
        by_shape: dict[torch.Size, list[nn.Parameter]] = defaultdict(list)
        for matrix in matrices:
            by_shape[matrix.shape].append(matrix)
        super().__init__([{"params": same} for same in by_shape.values()], dict(_MUON))
        self._dtype = dtype
        self._updated: Callable[..., Tensor] = (
            torch.compile(_updated, dynamic=False) if compiled else _updated
        )

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Update every matrix."""
        for group in self.param_groups:
            same = group["params"]
            gradients = torch.stack([matrix.grad for matrix in same])
            weights = torch.stack(list(same))
            state = self.state[same[0]]
            if not state:
                state["momentum"] = torch.zeros_like(gradients)
                is_tall = gradients.size(-2) >= gradients.size(-1)
                state["size"] = torch.zeros_like(gradients.mean(-1 if is_tall else -2, True))
            settings = {name: group[name] for name in _MUON}
            new = self._updated(gradients, weights, state, settings=settings, dtype=self._dtype)
            torch._foreach_copy_(list(same), list(new.unbind()))


def _updated(
    gradients: Tensor,
    weights: Tensor,
    state: dict[str, Tensor],
    *,
    settings: dict[str, float],
    dtype: torch.dtype,
) -> Tensor:
    """Return the new weights, a stack; the state's tensors are changed."""
    momentum, size = state["momentum"], state["size"]
    momentum.lerp_(gradients, 1 - settings["momentum"])
    ahead = gradients.lerp(momentum, settings["momentum"])
    rows = ahead.norm(dim=-1, keepdim=True).clamp_min(1e-6)
    even = ahead * (rows.square().mean(-2, keepdim=True).sqrt() / rows)
    way = orthogonalise(even.to(dtype)).float()
    # At the first update the gradients behind outputs of zero are zero themselves.
    way = way * (min(way.shape[-2:]) ** 0.5 / way.norm(dim=(-2, -1), keepdim=True).clamp_min(1e-6))
    across = -1 if size.size(-1) == 1 else -2
    square = way.square().mean(across, keepdim=True)
    size.lerp_(square, 1 - settings["beta2"])
    scale = size.clamp_min(1e-10).rsqrt()
    before = square.sum(dim=(-2, -1), keepdim=True).sqrt()
    after = (square * scale.square()).sum(dim=(-2, -1), keepdim=True).sqrt()
    way = way * scale * (before / after.clamp_min(1e-10))
    decay = settings["weight_decay"] * weights * (way * weights >= 0)
    return weights - settings["lr"] * (way + decay)


def optimizers(model: Chat, workload: Workload, *, compiled: bool) -> list[torch.optim.Optimizer]:
    """Return Muon for the blocks' matrices and AdamW for the rest, at the workload's batch."""
    by_batch = math.sqrt(workload.tokens / _BATCH)
    by_width = (workload.model.hidden_size / _HIDDEN) ** -0.5
    muon = Muon(list(model.blocks.parameters()), dtype=workload.dtype, compiled=compiled)
    for group in muon.param_groups:
        group["lr"] *= by_batch
    groups = []
    for parameter, settings, factor in (
        (model.head.weight, _HEAD, by_width),
        (model.tokens.weight, _EMBEDDING, by_width),
        (model.residual, _RESIDUAL, 1.0),
        (model.embedded, _EMBEDDED, 1.0),
    ):
        groups.append({"params": [parameter], **settings})
        groups[-1]["lr"] = settings["lr"] * by_batch * factor
    return [muon, torch.optim.AdamW(groups, eps=1e-10, fused=True)]


def nanochat(workload: Workload) -> StepRun:
    """Time updates in the workload's type."""
    compiled = workload.device.type == "cuda"
    torch.manual_seed(workload.seed)
    model = Chat(workload.model, workload.seq_len, dtype=workload.dtype).to(workload.device)
    both = optimizers(model, workload, compiled=compiled)
    forward = torch.compile(model, dynamic=False) if compiled else model

    def step(batch: Batch) -> float:
        loss = accumulate(forward, batch, workload)
        for optimizer in both:
            optimizer.step()
        model.zero_grad(set_to_none=True)
        return loss.item()

    name = "nanochat, compiled" if compiled else "nanochat"
    return time_steps(described(name, model, workload), step, workload=workload)
