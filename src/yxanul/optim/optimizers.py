"""The optimizers of one model behind one face: rates per group, one step, state as named tensors.

AdamW (torch's, fused) holds all groups, or Muon takes the matrices and AdamW the rest. Ranks may
share the work and the state out among them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from yxanul.config.schema import OptimizerConfig
from yxanul.optim.adamw import ADAMW_MOMENTS, adamw
from yxanul.optim.groups import grouped_parameters
from yxanul.optim.moments import checked_updates, count_of, key_of
from yxanul.optim.muon import Muon, muon_moments
from yxanul.optim.shares import Shares
from yxanul.parallel.processes import ALONE, Processes


@dataclass(frozen=True)
class LearningRates:
    """The rate of each group at one step, per update."""

    matrices: float
    embedding: float
    norms: float


class ModelOptimizer(Protocol):
    """What moves a model's weights, whoever drives it; every rank calls every method."""

    def clip_gradients(self) -> Tensor:
        """See that this step's gradients have a joint norm of at most max_grad_norm.

        Returns the norm that they had, 0-D.
        """

    def step(self, rates: LearningRates) -> None:
        """Do one update at these learning rates and drop the gradients."""

    def drop_gradients(self) -> None:
        """Forget this step's gradients: no weight and no moment sees them."""

    def state_tensors(self) -> dict[str, Tensor]:
        """Return all moments by name and the number of updates; whole on the main rank only."""

    def load_state_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        """Set all moments from the main rank's `state_tensors()` of the same shapes.

        Raises ValueError, and changes nothing, when any is missing, extra or misshapen.
        """

    def forget(self) -> None:
        """Drop all moments: the next update is the first."""


class Optimizers:
    """All optimizers of one model; with `sharing` this rank holds its share of the state only.

    With `in_place` gradients are zeroed where they lie, which is in DistributedDataParallel's
    buckets: beside dropped ones the next step's would be made anew and added up there.
    """

    def __init__(
        self,
        model: nn.Module,
        config: OptimizerConfig,
        *,
        muon_dtype: torch.dtype,
        sharing: Processes = ALONE,
        in_place: bool = False,
    ) -> None:
        groups = grouped_parameters(model.named_parameters())
        self._parameters = {name: p for group in groups.values() for name, p in group.items()}
        self._shares = Shares(groups.values(), sharing)
        self._max_grad_norm = config.max_grad_norm
        self._in_place = in_place
        self._updates = 0
        moved_by_muon = groups["matrices"] if config.name == "muon" else {}
        # In the order of groups, which is every rank's.
        self._moments = {
            (name, moment): shape
            for name, p in self._parameters.items()
            for moment, shape in (
                muon_moments(p.shape, beta2=config.muon_beta2)
                if name in moved_by_muon
                else dict.fromkeys(ADAMW_MOMENTS, p.shape)
            ).items()
        }
        mine = {
            group: [p for name, p in members.items() if self._shares.is_mine(name)]
            for group, members in groups.items()
        }
        self._all: list[torch.optim.Optimizer] = []
        if config.name == "muon":
            muon = Muon(
                [{"params": mine.pop("matrices"), "name": "matrices"}],
                lr=0.0,
                momentum=config.muon_momentum,
                beta2=config.muon_beta2,
                weight_decay=config.weight_decay,
                iterate_dtype=muon_dtype,
            )
            self._all.append(muon)
        self._adamw = adamw(mine, config)
        self._all.append(self._adamw)

    def clip_gradients(self) -> Tensor:
        """Scale the gradients to a joint norm of at most max_grad_norm; return the old one, 0-D."""
        return nn.utils.clip_grad_norm_(self._parameters.values(), self._max_grad_norm)

    def step(self, rates: LearningRates) -> None:
        """Do one update at these learning rates and drop the gradients."""
        for optimizer in self._all:
            for group in optimizer.param_groups:
                group["lr"] = getattr(rates, group["name"])
            optimizer.step()
        self.drop_gradients()
        self._updates += 1
        self._shares.publish(self._parameters)

    def drop_gradients(self) -> None:
        """Forget this step's gradients."""
        held = [p.grad for p in self._parameters.values() if p.grad is not None]
        if held and self._in_place:
            torch._foreach_zero_(held)
            return
        for parameter in self._parameters.values():
            parameter.grad = None

    def state_tensors(self) -> dict[str, Tensor]:
        """Return all moments by name, as references, and the number of updates.

        Where the state is shared out the main rank gets copies of what others hold, and they return
        what they hold.
        """
        tensors = count_of(self._updates)
        states = {p: state for optimizer in self._all for p, state in optimizer.state.items()}
        for (name, moment), shape in self._moments.items() if self._updates else ():
            parameter = self._parameters[name]
            held = states.get(parameter, {}).get(moment)
            found = self._shares.at_main(name, held, shape=shape, device=parameter.device)
            if found is not None:
                tensors[key_of((name, moment))] = found
        return tensors

    @torch.no_grad()
    def load_state_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        """Set all moments from the main rank's `state_tensors()` of the same shapes."""
        self._updates = checked_updates(tensors, self._moments)
        for optimizer in self._all:
            optimizer.state.clear()
        if self._updates:
            self._take(tensors)

    def forget(self) -> None:
        """Drop all moments: the next update is the first."""
        self.load_state_tensors(count_of(0))

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
            state[moment] = tensors[key_of((name, moment))].to(
                parameter.device, torch.float32, copy=True
            )
            if optimizer is self._adamw:
                # Only the fused kernel reads its count on the device.
                place = parameter.device if optimizer.defaults["fused"] else torch.device("cpu")
                state["step"] = torch.tensor(float(self._updates), device=place)
