"""nanochat's two optimizers and how their settings change in a run, re-stated.

Muon for the matrices, stacked by shape: rows evened out, an orthogonal direction (Polar Express,
arXiv 2505.16932), rows scaled by their running size, decay only where it agrees with the update, a
rate that is higher for tall matrices. AdamW for the rest. Rates and decay are scaled to the batch
and the number of parameters as nanochat scales them.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from yxanul.bench.workload import Workload

if TYPE_CHECKING:
    from benchmarks.steps.nanochat import Chat

_MUON = {"lr": 0.02, "momentum": 0.95, "beta2": 0.9, "weight_decay": 0.28}
_HEAD: dict[str, Any] = {"lr": 0.008, "betas": (0.8, 0.96), "weight_decay": 0.01}
_EMBEDDING: dict[str, Any] = {"lr": 0.3, "betas": (0.8, 0.995), "weight_decay": 0.001}
_RESIDUAL: dict[str, Any] = {"lr": 0.005, "betas": (0.8, 0.95), "weight_decay": 0.05}
_EMBEDDED: dict[str, Any] = {"lr": 0.5, "betas": (0.96, 0.95), "weight_decay": 0.0}
# These are for a batch of 524,288 tokens, a hidden_size of 768, and the matrices of 12 layers of
# that size with a head of 32,768 rows.
_BATCH, _HIDDEN = 524_288, 768
_MATRICES = 12 * 12 * _HIDDEN**2 + 32_768 * _HIDDEN
# Polar Express: five quintics in turn, made for singular values from 1/1000 up (arXiv 2505.16932).
_QUINTICS = (
    (8.156554524902461, -22.48329292557795, 15.878769915207462),
    (4.042929935166739, -2.808917465908714, 0.5000178451051316),
    (3.8916678022926607, -2.772484153217685, 0.5060648178503393),
    (3.285753657755655, -2.3681294933425376, 0.46449024233003106),
    (2.3465413258596377, -1.7097828382687081, 0.42323551169305323),
)


class ChatMuon(torch.optim.Optimizer):
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
                # Tensors, or a graph would be compiled for every rate.
                state["settings"] = {name: gradients.new_empty(()) for name in _MUON}
            for name, setting in state["settings"].items():
                setting.fill_(group[name])
            rows, columns = same[0].shape
            state["settings"]["lr"].mul_(max(1.0, rows / columns) ** 0.5)
            new = self._updated(gradients, weights, state, dtype=self._dtype)
            torch._foreach_copy_(list(same), list(new.unbind()))


def _updated(
    gradients: Tensor, weights: Tensor, state: dict[str, Any], *, dtype: torch.dtype
) -> Tensor:
    """Return the new weights, a stack; the state's tensors are changed."""
    momentum, size, settings = state["momentum"], state["size"], state["settings"]
    momentum.lerp_(gradients, 1 - settings["momentum"])
    ahead = gradients.lerp(momentum, settings["momentum"])
    rows = ahead.norm(dim=-1, keepdim=True).clamp_min(1e-6)
    even = ahead * (rows.square().mean(-2, keepdim=True).sqrt() / rows)
    way = polar_express(even.to(dtype)).float()
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
    new: Tensor = weights - settings["lr"] * (way + decay)
    return new


def polar_express(stack: Tensor) -> Tensor:
    """Return about U V^T for each matrix U S V^T of (count, rows, columns), in the stack's type."""
    tall = stack.size(-2) > stack.size(-1)
    x = stack.mT if tall else stack
    x = x / (1.01 * x.norm(dim=(-2, -1), keepdim=True) + 1e-6)
    for a, b, c in _QUINTICS:
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    result: Tensor = x.mT if tall else x
    return result


def chat_optimizers(
    model: Chat, workload: Workload, *, compiled: bool
) -> list[torch.optim.Optimizer]:
    """Return Muon for the blocks' matrices and AdamW for the rest, at the workload's batch."""
    by_batch = math.sqrt(workload.tokens / _BATCH)
    by_width = (workload.model.hidden_size / _HIDDEN) ** -0.5
    matrices = list(model.blocks.parameters())
    held = sum(matrix.numel() for matrix in matrices) + model.head.weight.numel()
    muon = ChatMuon(matrices, dtype=workload.dtype, compiled=compiled)
    for group in muon.param_groups:
        group["lr"] *= by_batch
        group["weight_decay"] *= by_batch * _MATRICES / held
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


WARM_UP = 0.02
"""The share of a run in which rates rise: as ours, and as nanoGPT's 100 updates of 5,000."""


class ChatSchedule:
    """What nanochat changes in a run.

    Rates rise over its first updates and fall over the last 65 % of the run to 5 %; Muon's momentum
    rises from 0.85 to 0.97 over ten times as many and falls to 0.90 beside the rates, its decay
    falls to zero along a cosine. It counts 40 and 400 updates in runs of thousands; here they are
    shares of the run, or a short one would end while it rises.
    """

    def __init__(self, optimizers: Sequence[torch.optim.Optimizer]) -> None:
        self._peaks = [
            (group, group["lr"], group["weight_decay"])
            for group in chain.from_iterable(each.param_groups for each in optimizers)
        ]

    def settle(self, progress: float) -> None:
        """Set what holds in the update at a progress from 0 to 1."""
        fallen = max(0.0, 1.0 - (1.0 - progress) / 0.65)
        rate = min(progress / WARM_UP, 1.0 - 0.95 * fallen)
        risen = min(progress / (10 * WARM_UP), 1.0)
        momentum = 0.85 + 0.12 * risen - 0.07 * fallen
        for group, lr, decay in self._peaks:
            group["lr"] = lr * rate
            if "momentum" in group:
                group["momentum"] = momentum
                group["weight_decay"] = decay * 0.5 * (1.0 + math.cos(math.pi * progress))
