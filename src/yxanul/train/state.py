"""Where a run stands, and how that becomes a checkpoint and back, bit for bit."""

import base64
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from yxanul.curriculum.stages import StagePlan
from yxanul.errors import CorruptCheckpointError
from yxanul.model.transformer import Transformer
from yxanul.optim.optimizers import Optimizers
from yxanul.runfolder.checkpoints import Checkpoint


@dataclass
class Position:
    """The run's clock; everything else about the data order follows from it."""

    stage: str
    stage_step: int
    """Updates done in this stage."""
    step: int
    """Updates done in the run."""
    tokens_seen: int
    tokens_spent: int
    """Like tokens_seen, but never rolled back."""
    attempt: int

    def enter(self, plan: StagePlan) -> None:
        """Stand at the beginning of a stage."""
        self.stage, self.stage_step = plan.name, 0
        self.step, self.tokens_seen = plan.first_step, plan.first_token

    def advance(self, tokens: int) -> None:
        """Count one update of `tokens` tokens over all ranks."""
        self.stage_step += 1
        self.step += 1
        self.tokens_seen += tokens
        self.tokens_spent += tokens

    def as_row(self) -> dict[str, Any]:
        """Return the columns with which every metric row begins."""
        return {
            "step": self.step,
            "attempt": self.attempt,
            "stage": self.stage,
            "stage_step": self.stage_step,
            "tokens_seen": self.tokens_seen,
        }


def as_arrays(tensors: Mapping[str, Tensor]) -> dict[str, np.ndarray]:
    """Return the tensors as contiguous arrays on the host; on a CPU they share memory."""
    return {name: t.detach().cpu().contiguous().numpy() for name, t in tensors.items()}


def capture_state(position: Position) -> dict[str, Any]:
    """Return the JSON part of a checkpoint: the clock and torch's random state."""
    rng = base64.b64encode(torch.get_rng_state().numpy().tobytes()).decode("ascii")
    return {"position": asdict(position), "torch_rng": rng}


def restore_state(
    checkpoint: Checkpoint, model: Transformer, *, optimizers: Optimizers
) -> Position:
    """Load weights, moments and random state in place; return where the run stood."""
    load_weights(checkpoint, model)
    moments = {name: torch.from_numpy(array) for name, array in checkpoint.optimizer.items()}
    try:
        optimizers.load_state_tensors(moments)
        rng = np.frombuffer(base64.b64decode(checkpoint.state["torch_rng"]), dtype=np.uint8)
        torch.set_rng_state(torch.from_numpy(rng.copy()))
        return Position(**checkpoint.state["position"])
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise CorruptCheckpointError(
            f"{checkpoint.info.path} does not hold the state of this run: {error}"
        ) from error


def load_weights(checkpoint: Checkpoint, model: Transformer) -> None:
    """Copy a checkpoint's weights into the model; a misfit is a `CorruptCheckpointError`."""
    weights = {name: torch.from_numpy(array) for name, array in checkpoint.model.items()}
    try:
        model.load_state_dict(weights, strict=True)
    except RuntimeError as error:
        raise CorruptCheckpointError(
            f"the weights of {checkpoint.info.path} do not fit this model: {error}"
        ) from error
