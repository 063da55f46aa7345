"""AdamW as DeepSpeed drives it, behind the face of our own optimizers."""

from collections.abc import Mapping

from torch import Tensor, nn

from yxanul.optim.adamw import ADAMW_MOMENTS
from yxanul.optim.moments import checked_updates, count_of, key_of
from yxanul.optim.optimizers import LearningRates
from yxanul.parallel.deepspeed import DeepSpeedReplica


class DrivenOptimizer:
    """The AdamW of a `DeepSpeedReplica`; a `ModelOptimizer`.

    `parameters` are the model's {name: parameter} in the order of its groups; only the main rank
    copies the moments that all ranks gather.
    """

    def __init__(
        self, replica: DeepSpeedReplica, parameters: Mapping[str, nn.Parameter], *, is_main: bool
    ) -> None:
        self._replica = replica
        self._parameters = dict(parameters)
        self._moments = {
            (name, moment): parameter.shape
            for name, parameter in parameters.items()
            for moment in ADAMW_MOMENTS
        }
        self._is_main = is_main
        self._updates = 0

    def clip_gradients(self) -> Tensor:
        """Return the gradients' joint norm, 0-D; they are clipped within the step."""
        return self._replica.grad_norm()

    def step(self, rates: LearningRates) -> None:
        """Do one update at these learning rates and drop the gradients."""
        for group in self._replica.adamw.param_groups:
            group["lr"] = getattr(rates, group["name"])
        self._replica.update()
        self._updates += 1

    def drop_gradients(self) -> None:
        """Forget this step's gradients."""
        self._replica.drop_gradients()

    def state_tensors(self) -> dict[str, Tensor]:
        """Return all moments by name and the number of updates; copies, on the main rank only."""
        tensors = count_of(self._updates)
        for name, moment in self._moments if self._updates else ():
            whole = self._replica.moment(self._parameters[name], moment)
            if self._is_main:
                tensors[key_of((name, moment))] = whole.cpu()
        return tensors

    def load_state_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        """Set all moments from the main rank's `state_tensors()` of the same shapes."""
        self._updates = checked_updates(tensors, self._moments)
        self._replica.begin_moments(self._updates)
        for name, moment in self._moments if self._updates else ():
            parameter = self._parameters[name]
            self._replica.set_moment(parameter, moment, whole=tensors[key_of((name, moment))])

    def forget(self) -> None:
        """Drop all moments: the next update is the first."""
        self.load_state_tensors(count_of(0))
