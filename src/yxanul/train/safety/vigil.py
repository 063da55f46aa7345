"""Is a step's loss one of a training that goes well? Answered from the steps before it.

The one idea: the median and the median absolute deviation of the last losses say what is usual, and
nothing that one bad step measures can move them. A mean and its deviation fail here: one NaN in
their window makes every later step an outlier. A step with a suspicious loss or a gradient that is
not finite does not move the weights (OLMo 2, arXiv 2501.00656, skips such steps by mean and
deviation); when they come together the run goes back and reads on elsewhere (PaLM, arXiv
2204.02311, section 5.1). What is remembered is part of a checkpoint, so that a resumed run skips
the same steps.
"""

import math
import statistics
from dataclasses import asdict, dataclass, field
from typing import Any

from yxanul.config.schema import NumericsConfig
from yxanul.errors import CorruptCheckpointError

_MAD_TO_SIGMA = 1.4826
_FEWEST_LOSSES = 32
_LEAST_RISE = 0.25  # above the median: a curve that is nearly flat has a tiny deviation
_SHARE_OVER = 1000
"""Steps over which the share of skipped ones is taken."""


@dataclass
class Vigil:
    """What the last steps of one phase (a stage's sequence length) lost, and what was skipped."""

    settings: NumericsConfig
    phase: str = ""
    losses: list[float] = field(default_factory=list)
    """Finite losses of the phase's last steps, nats per token, oldest first."""
    skipped: list[int] = field(default_factory=list)
    """Steps of this attempt at the run, of the last thousand, that moved no weight."""

    def begin_phase(self, phase: str) -> None:
        """Forget what was usual, where another text or length makes another loss usual."""
        if phase != self.phase:
            self.phase, self.losses = phase, []

    def forget_skipped(self) -> None:
        """Begin an attempt: steps that the one before it skipped are no reason to go back again.

        Going back, for whatever reason, and an extension each begin one.
        """
        self.skipped = []

    def suspicion(self, loss: float, grad_norm: float) -> str | None:
        """Return why a step must not move the weights; None = it may."""
        if not (math.isfinite(loss) and math.isfinite(grad_norm)):
            return f"the loss ({loss:.4g}) or the gradient norm ({grad_norm:.4g}) is not finite"
        limit = self._limit()
        if loss > limit:
            median = statistics.median(self.losses)
            return f"the loss {loss:.4g} is above {limit:.4g}, where {median:.4g} was usual"
        return None

    def record(self, step: int, loss: float, *, was_skipped: bool) -> None:
        """Remember the step, the number of updates done before it. Only finite losses count."""
        if math.isfinite(loss):
            self.losses = [*self.losses, loss][-self.settings.window_steps :]
        self.skipped = [old for old in self.skipped if old > step - _SHARE_OVER]
        if was_skipped:
            self.skipped.append(step)

    def divergence(self) -> str | None:
        """Return why the run must go back, after the step that was recorded last; None = go on."""
        in_a_row, most = self.settings.skipped_in_a_row, self.settings.skipped_share
        last = self.skipped[-in_a_row:]
        if len(last) == in_a_row and last[-1] - last[0] == in_a_row - 1:
            return f"{in_a_row} steps in a row were skipped"
        if len(self.skipped) > most * _SHARE_OVER:
            return f"{len(self.skipped)} of the last {_SHARE_OVER:,} steps were skipped"
        return None

    def as_state(self) -> dict[str, Any]:
        """Return plain values for a checkpoint."""
        return {key: value for key, value in asdict(self).items() if key != "settings"}

    def restore(self, state: object) -> None:
        """Set what `as_state` returned; None, of an older checkpoint, is nothing remembered."""
        state = {"phase": "", "losses": [], "skipped": []} if state is None else state
        if not _is_state(state):
            raise CorruptCheckpointError("it does not hold what the steps before it lost")
        assert isinstance(state, dict)
        self.phase = state["phase"]
        self.losses, self.skipped = list(state["losses"]), list(state["skipped"])

    def _limit(self) -> float:
        if self.settings.spike_deviations is None or len(self.losses) < _FEWEST_LOSSES:
            return math.inf
        median = statistics.median(self.losses)
        deviation = _MAD_TO_SIGMA * statistics.median(abs(loss - median) for loss in self.losses)
        above = max(self.settings.spike_deviations * deviation, _LEAST_RISE * median)
        return float(median + above)


def _is_state(state: object) -> bool:
    return (
        isinstance(state, dict)
        and state.keys() == {"phase", "losses", "skipped"}
        and isinstance(state["phase"], str)
        and all(isinstance(v, float) and math.isfinite(v) for v in state["losses"])
        and all(type(v) is int for v in state["skipped"])
    )
