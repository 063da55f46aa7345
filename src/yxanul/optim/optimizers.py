"""The optimizers of one model behind one face: rates per group, one step, state as named tensors.

AdamW (torch's, fused) holds all groups, or Muon takes the matrices and AdamW the rest. Ranks may
share the work and the state out among them. State is read and written as {"exp_avg.<parameter>":
tensor, ...}, free of any engine's format and number of ranks, so a checkpoint needs no pickle.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from yxanul.config.schema import OptimizerConfig
from yxanul.optim.groups import GROUPS, grouped_parameters
from yxanul.optim.muon import Muon
from yxanul.optim.shares import Shares
from yxanul.parallel.processes import ALONE, Processes

_ADAMW_MOMENTS = ("exp_avg", "exp_avg_sq")
_MUON_MOMENTS = ("momentum",)


@dataclass(frozen=True)
class LearningRates:
    """The rate of each group at one step, per update."""

    matrices: float
    embedding: float
    norms: float


class Optimizers:
    """All optimizers of one model; with `sharing` this rank holds its share of the state only."""

    def __init__(
        self,
        model: nn.Module,
        config: OptimizerConfig,
        *,
        muon_dtype: torch.dtype,
        sharing: Processes = ALONE,
    ) -> None:
        groups = grouped_parameters(model.named_parameters())
        self._parameters = {name: p for group in groups.values() for name, p in group.items()}
        self._shares = Shares(groups.values(), sharing)
        self._max_grad_norm = config.max_grad_norm
        self._updates = 0
        mine = {
            group: [p for name, p in members.items() if self._shares.is_mine(name)]
            for group, members in groups.items()
        }
        adam_groups = ["embedding", "norms"] if config.name == "muon" else list(GROUPS)
        self._adamw = torch.optim.AdamW(
            [
                {
                    "params": mine[group],
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
        moved_by_muon: dict[str, nn.Parameter] = {}
        if config.name == "muon":
            moved_by_muon = groups["matrices"]
            muon = Muon(
                [{"params": mine["matrices"], "name": "matrices"}],
                lr=0.0,
                momentum=config.muon_momentum,
                weight_decay=config.weight_decay,
                iterate_dtype=muon_dtype,
            )
            self._all.append(muon)
        # In the order of groups, which is every rank's.
        self._moments = [
            (name, moment)
            for name in self._parameters
            for moment in (_MUON_MOMENTS if name in moved_by_muon else _ADAMW_MOMENTS)
        ]

    def clip_gradients(self) -> Tensor:
        """Scale the gradients to a joint norm of at most max_grad_norm; return the old one, 0-D."""
        return nn.utils.clip_grad_norm_(self._parameters.values(), self._max_grad_norm)

    def step(self, rates: LearningRates) -> None:
        """Do one update at these learning rates and drop the gradients; all ranks do."""
        for optimizer in self._all:
            for group in optimizer.param_groups:
                group["lr"] = getattr(rates, group["name"])
            optimizer.step()
        for parameter in self._parameters.values():
            parameter.grad = None
        self._updates += 1
        self._shares.publish(self._parameters)

    def state_tensors(self) -> dict[str, Tensor]:
        """Return all moments by name, as references, and the number of updates; all ranks call it.

        Where the state is shared out the main rank gets copies of what others hold, and they return
        what they hold.
        """
        tensors = {"updates": torch.tensor(self._updates, dtype=torch.int64)}
        states = {p: state for optimizer in self._all for p, state in optimizer.state.items()}
        for name, moment in self._moments if self._updates else ():
            parameter = self._parameters[name]
            held = states.get(parameter, {}).get(moment)
            found = self._shares.at_main(name, held, like=parameter)
            if found is not None:
                tensors[f"{moment}.{name}"] = found
        return tensors

    @torch.no_grad()
    def load_state_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        """Set all moments from the main rank's `state_tensors()` of the same optimizers and shapes.

        Raises ValueError, and changes nothing, when any is missing, extra or misshapen.
        """
        updates = _updates_in(tensors)
        wanted = {f"{m}.{name}": self._parameters[name] for name, m in self._moments}
        if not updates:
            wanted = {}
        other = sorted(wanted.keys() ^ (tensors.keys() - {"updates"}))
        for key, parameter in wanted.items():
            found = tensors.get(key, parameter)
            if found.shape != parameter.shape or found.dtype != torch.float32:
                other.append(key)
        if other:
            raise ValueError(f"the optimizer state {other[0]} is missing, extra or misshapen")
        self._updates = updates
        for optimizer in self._all:
            optimizer.state.clear()
        if updates:
            self._take(tensors)

    def _take(self, tensors: Mapping[str, Tensor]) -> None:
        """Copy this rank's share of the moments into its optimizers."""
        movers = {
            p: optimizer
            for optimizer in self._all
            for group in optimizer.param_groups
            for p in group["params"]
        }
        for name, moment in self._moments:
            if not self._shares.is_mine(name):
                continue
            parameter = self._parameters[name]
            optimizer = movers[parameter]
            state = optimizer.state[parameter]
            state[moment] = tensors[f"{moment}.{name}"].to(
                parameter.device, torch.float32, copy=True
            )
            if optimizer is self._adamw:
                # Only the fused kernel reads its count on the device.
                place = parameter.device if optimizer.defaults["fused"] else torch.device("cpu")
                state["step"] = torch.tensor(float(self._updates), device=place)

    def forget(self) -> None:
        """Drop all moments: the next update is the first."""
        self.load_state_tensors({"updates": torch.tensor(0, dtype=torch.int64)})


def _updates_in(tensors: Mapping[str, Tensor]) -> int:
    updates = tensors.get("updates")
    if updates is None or updates.dtype != torch.int64 or updates.dim() != 0 or updates < 0:
        raise ValueError("the optimizer state holds no number of updates")
    return int(updates)
