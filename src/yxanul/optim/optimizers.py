"""The optimizers of one model behind one face: rates per group, one step, state as named tensors.

AdamW (torch's, fused) holds all groups, or Muon takes the matrices and AdamW the rest. State is
read and written as {"exp_avg.<parameter>": tensor, ...}, free of any engine's format, so a
checkpoint needs no pickle.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from yxanul.config.schema import OptimizerConfig
from yxanul.optim.groups import GROUPS, grouped_parameters
from yxanul.optim.muon import Muon

_MOMENTS = ("exp_avg", "exp_avg_sq", "momentum")


@dataclass(frozen=True)
class LearningRates:
    """The rate of each group at one step, per update."""

    matrices: float
    embedding: float
    norms: float


class Optimizers:
    """All optimizers of one model."""

    def __init__(
        self, model: nn.Module, config: OptimizerConfig, *, muon_dtype: torch.dtype
    ) -> None:
        groups = grouped_parameters(model.named_parameters())
        self._names: dict[Tensor, str] = {
            p: name for group in groups.values() for name, p in group.items()
        }
        self._max_grad_norm = config.max_grad_norm
        self._updates = 0
        adam_groups = ["embedding", "norms"] if config.name == "muon" else list(GROUPS)
        self._adamw = torch.optim.AdamW(
            [
                {
                    "params": list(groups[group].values()),
                    "name": group,
                    "weight_decay": config.weight_decay if group == "matrices" else 0.0,
                }
                for group in adam_groups
            ],
            lr=0.0,
            betas=(config.beta1, config.beta2),
            eps=config.eps,
            fused=config.fused,
        )
        self._all: list[torch.optim.Optimizer] = [self._adamw]
        if config.name == "muon":
            muon = Muon(
                list(groups["matrices"].values()),
                lr=0.0,
                momentum=config.muon_momentum,
                weight_decay=config.weight_decay,
                iterate_dtype=muon_dtype,
            )
            muon.param_groups[0]["name"] = "matrices"
            self._all.append(muon)

    def clip_gradients(self) -> Tensor:
        """Scale the gradients to a joint norm of at most max_grad_norm; return the old one, 0-D."""
        return nn.utils.clip_grad_norm_(self._names, self._max_grad_norm)

    def step(self, rates: LearningRates) -> None:
        """Do one update at these learning rates and drop the gradients."""
        for optimizer in self._all:
            for group in optimizer.param_groups:
                group["lr"] = getattr(rates, group["name"])
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        self._updates += 1

    def state_tensors(self) -> dict[str, Tensor]:
        """Return all moments by name, as references, and the number of updates."""
        tensors = {"updates": torch.tensor(self._updates, dtype=torch.int64)}
        for optimizer in self._all:
            for parameter, state in optimizer.state.items():
                for moment in _MOMENTS:
                    if moment in state:
                        tensors[f"{moment}.{self._names[parameter]}"] = state[moment]
        return tensors

    @torch.no_grad()
    def load_state_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        """Set all moments from `state_tensors()` of the same optimizers and shapes.

        Raises ValueError, and changes nothing, when any is missing, extra or misshapen.
        """
        updates = _updates_in(tensors)
        wanted = self._moments() if updates else {}
        other = sorted(wanted.keys() ^ (tensors.keys() - {"updates"}))
        for name, (parameter, _) in wanted.items():
            found = tensors.get(name, parameter)
            if found.shape != parameter.shape or found.dtype != torch.float32:
                other.append(name)
        if other:
            raise ValueError(f"the optimizer state {other[0]} is missing, extra or misshapen")
        self._updates = updates
        for optimizer in self._all:
            optimizer.state.clear()
        for name, (parameter, optimizer) in wanted.items():
            state = optimizer.state[parameter]
            state[name.partition(".")[0]] = tensors[name].to(
                parameter.device, torch.float32, copy=True
            )
            if optimizer is self._adamw:
                # Only the fused kernel reads its count on the device.
                place = parameter.device if optimizer.defaults["fused"] else torch.device("cpu")
                state["step"] = torch.tensor(float(updates), device=place)

    def forget(self) -> None:
        """Drop all moments: the next update is the first."""
        self.load_state_tensors({"updates": torch.tensor(0, dtype=torch.int64)})

    def _moments(self) -> dict[str, tuple[Tensor, torch.optim.Optimizer]]:
        """Return {name of a moment: its parameter and optimizer}, for all of them."""
        found: dict[str, tuple[Tensor, torch.optim.Optimizer]] = {}
        for optimizer in self._all:
            moments = ("exp_avg", "exp_avg_sq") if optimizer is self._adamw else ("momentum",)
            for group in optimizer.param_groups:
                for parameter in group["params"]:
                    for moment in moments:
                        found[f"{moment}.{self._names[parameter]}"] = (parameter, optimizer)
        return found


def _updates_in(tensors: Mapping[str, Tensor]) -> int:
    updates = tensors.get("updates")
    if updates is None or updates.dtype != torch.int64 or updates.dim() != 0 or updates < 0:
        raise ValueError("the optimizer state holds no number of updates")
    return int(updates)
