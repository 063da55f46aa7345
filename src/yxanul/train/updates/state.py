"""Where a run stands, and how that becomes a checkpoint and back, bit for bit."""

import base64
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from yxanul.curriculum.stages import StagePlan
from yxanul.errors import CorruptCheckpointError, CorruptDataError
from yxanul.evaluate.models.loaded import copy_weights
from yxanul.model.transformer import Transformer
from yxanul.optim.optimizers import ModelOptimizer
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
        """Go from the end of the stage before to the beginning of this one.

        A run that stands elsewhere is a `CorruptDataError`: what it has counted is never assigned.
        """
        if (self.step, self.tokens_seen) != (plan.first_step, plan.first_token):
            raise CorruptDataError(
                f"{plan.name} begins at step {plan.first_step} after {plan.first_token:,} tokens, "
                f"but the run stands at step {self.step} after {self.tokens_seen:,}"
            )
        self.stage, self.stage_step = plan.name, 0

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


def first_position(plan: StagePlan) -> Position:
    """Return the place where a run begins that begins with this stage."""
    return Position(
        stage=plan.name,
        stage_step=0,
        step=plan.first_step,
        tokens_seen=plan.first_token,
        tokens_spent=0,
        attempt=0,
    )


def as_arrays(tensors: Mapping[str, Tensor]) -> dict[str, np.ndarray]:
    """Return the tensors as contiguous arrays on the host; on a CPU they share memory."""
    return {name: t.detach().cpu().contiguous().numpy() for name, t in tensors.items()}


def copied(tensors: Mapping[str, Tensor]) -> dict[str, np.ndarray]:
    """Return copies of the tensors on the host, which the next step leaves alone."""
    return {
        name: t.detach().to("cpu", copy=True).contiguous().numpy() for name, t in tensors.items()
    }


def capture_state(
    position: Position, *, data: Mapping[str, str], vigil: dict[str, Any]
) -> dict[str, Any]:
    """Return the JSON part of a checkpoint.

    That is the clock, torch's random state, the data's hashes, and what the last steps lost.
    """
    rng = base64.b64encode(torch.get_rng_state().numpy().tobytes()).decode("ascii")
    return {
        "position": asdict(position),
        "torch_rng": rng,
        "data": dict(data),
        "vigil": vigil,
    }


def refuse_other_data(path: Path, state: Mapping[str, Any], *, data: Mapping[str, str]) -> None:
    """Raise unless `data` {source: sha256} still holds what a checkpoint was trained on.

    `state` is that of the checkpoint at `path`.
    """
    trained = state.get("data")
    if not isinstance(trained, dict):
        raise CorruptCheckpointError(f"{path} does not say what it was trained on")
    other = sorted(name for name, sha256 in trained.items() if data.get(name) != sha256)
    if other:
        raise CorruptDataError(
            f"{path} was trained on other data than is prepared now "
            f"({', '.join(other)}), so going on would not be the same run; bring the data back "
            "(what lies in RUN/data is prepared anew once that is deleted), or begin a new run "
            "with --init_from"
        )


def restore_state(
    checkpoint: Checkpoint, model: Transformer, *, optimizers: ModelOptimizer
) -> Position:
    """Load weights, moments and random state in place; return where the run stood."""
    copy_weights(checkpoint, model)
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
