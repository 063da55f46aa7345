"""Muon: momentum whose matrix is replaced by the nearest orthogonal one (Jordan 2024).

Matrices of one shape are stacked and iterated together, since a deep, narrow net has hundreds of
small ones. The update is scaled by 0.2 sqrt(max(out, in)), which gives it the root mean square of
an AdamW update (arXiv 2502.16982), so learning rate and weight decay are of AdamW's size. NorMuon
(arXiv 2510.05491) then evens out how far each neuron moves.
"""

from collections import defaultdict
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.optimizer import ParamsT

# The quintic of Jordan's Muon: it lifts small singular values fast and ends between 0.7 and 1.2,
# which is near enough.
_QUINTIC = (3.4445, -4.7750, 2.0315)
# Of an update; what never moves is not divided by 0.
_LEAST_SQUARE = 1e-10


def muon_moments(shape: torch.Size, *, beta2: float | None) -> dict[str, torch.Size]:
    """Return {name: shape} of what Muon remembers of a matrix (rows, columns)."""
    moments = {"momentum": shape}
    if beta2 is not None:
        # Orthogonal columns leave the rows of a tall matrix uneven, and the other way round.
        rows, columns = shape
        moments["update_sq"] = torch.Size((rows, 1) if rows >= columns else (1, columns))
    return moments


def orthogonalise(stack: Tensor, *, steps: int = 5) -> Tensor:
    """Return about U V^T for each matrix U S V^T of (count, rows, columns).

    Newton-Schulz iterations in the stack's type.
    """
    tall = stack.size(-2) > stack.size(-1)
    x = stack.mT if tall else stack
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    a, b, c = _QUINTIC
    for _ in range(steps):
        gram = x @ x.mT
        # Sums within the products: two tensors of the stack's size less, and no pass over them.
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    result: Tensor = x.mT if tall else x
    return result


class Muon(torch.optim.Optimizer):
    """Muon for 2-D parameters, with Nesterov momentum and decoupled weight decay.

    With `beta2` each update is divided by the root of its neurons' mean squares, remembered so
    long, and scaled back to its own norm (NorMuon).
    """

    def __init__(
        self,
        parameters: ParamsT,
        *,
        lr: float,
        momentum: float,
        beta2: float | None = None,
        weight_decay: float,
        iterate_dtype: torch.dtype,
    ) -> None:
        memory = {"momentum": momentum, "beta2": beta2}
        super().__init__(parameters, {"lr": lr, **memory, "weight_decay": weight_decay})
        self.iterate_dtype = iterate_dtype

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Update every parameter that has a gradient."""
        for group in self.param_groups:
            by_shape: dict[torch.Size, list[nn.Parameter]] = defaultdict(list)
            for parameter in group["params"]:
                if parameter.grad is not None:
                    by_shape[parameter.shape].append(parameter)
            for same in by_shape.values():
                self._update(same, group)

    def _update(self, same: list[nn.Parameter], group: dict[str, Any]) -> None:
        gradients = [p.grad for p in same if p.grad is not None]
        momenta = [self._moment("momentum", p, shape=p.shape) for p in same]
        torch._foreach_lerp_(momenta, gradients, 1.0 - group["momentum"])
        # Without names: neither the momenta ahead nor their stack is held while it iterates.
        directions = orthogonalise(
            torch.stack(torch._foreach_lerp(gradients, momenta, group["momentum"])).to(
                self.iterate_dtype
            )
        ).float()
        if group["beta2"] is not None:
            self._even_out(directions, same, beta2=group["beta2"])
        scale = group["lr"] * 0.2 * max(same[0].shape) ** 0.5
        weights: list[Tensor] = list(same)
        torch._foreach_mul_(weights, 1.0 - group["lr"] * group["weight_decay"])
        torch._foreach_add_(weights, list(directions.unbind()), alpha=-scale)

    def _even_out(self, directions: Tensor, same: list[nn.Parameter], *, beta2: float) -> None:
        """Divide directions (count, rows, columns) by their neurons' sizes, and keep their norms.

        The sizes are running means that begin at 0, which the norms take out again.
        """
        shape = muon_moments(same[0].shape, beta2=beta2)["update_sq"]
        squares = directions.square().mean(dim=1 if shape[0] == 1 else 2, keepdim=True)
        memories = [self._moment("update_sq", p, shape=shape) for p in same]
        torch._foreach_lerp_(memories, list(squares.unbind()), 1.0 - beta2)
        norms = directions.norm(dim=(1, 2), keepdim=True)
        # In place: a third tensor of the stack's size would be held.
        directions.mul_(torch.stack(memories).clamp(min=_LEAST_SQUARE).rsqrt())
        directions.mul_(norms / directions.norm(dim=(1, 2), keepdim=True).clamp(min=1e-7))

    def _moment(self, name: str, parameter: nn.Parameter, *, shape: torch.Size) -> Tensor:
        state = self.state[parameter]
        if name not in state:
            state[name] = parameter.new_zeros(shape)
        moment: Tensor = state[name]
        return moment
