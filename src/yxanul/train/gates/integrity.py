"""Gate G0's evidence: the stage's last checkpoint read back, tokens added up, the scorer tested."""

import math

import numpy as np
import torch

from yxanul.curriculum.checks.integrity import Integrity
from yxanul.curriculum.stages import StagePlan
from yxanul.errors import CorruptCheckpointError
from yxanul.model.transformer import Transformer
from yxanul.runfolder.checkpoints import checkpoint_name, load_weights, verify_checkpoint
from yxanul.train.running.session import Session
from yxanul.train.running.stage_data import stage_ledger
from yxanul.train.updates.state import Position, as_arrays

# Kernels on a card add in an order that changes from call to call; on a CPU nothing does.
_CARD_LOSS_TOLERANCE = 1e-3
# A target costs the scorer no more: there fp32 ends (yxanul.model.loss).
_LARGEST_NATS = -math.log(torch.finfo(torch.float32).tiny)
# The scorer rounds logits to the compute type: 8 bits in bf16.
_SCORER_TOLERANCE = {torch.bfloat16: 1e-2, torch.float32: 1e-4}


def measure_integrity(session: Session, plan: StagePlan, *, position: Position) -> Integrity:
    """Read back the checkpoint at `position`, where the stage has ended; nothing is changed."""
    name = checkpoint_name(position.step, position.attempt)
    probe = session.scorer.probe()
    model = session.model
    before = plan.first_token
    return Integrity(
        checkpoint=name,
        weights_equal=_is_on_disk(session, name),
        loss=_scored_loss(model, probe),
        loss_again=_scored_loss(model, probe),
        loss_tolerance=0.0 if session.engine.device.type == "cpu" else _CARD_LOSS_TOLERANCE,
        tokens_seen=position.tokens_seen,
        tokens_in_ledger=before + sum(stage_ledger(session, plan).values()),
        scorer_error=_scorer_error(model, probe),
        scorer_tolerance=_SCORER_TOLERANCE[model.compute_dtype],
    )


def _is_on_disk(session: Session, name: str) -> bool:
    try:
        path = session.folder.checkpoints / name
        verify_checkpoint(path)
        saved = load_weights(path).model
    except CorruptCheckpointError:
        return False
    live = as_arrays(session.model.state_dict())
    return saved.keys() == live.keys() and all(
        np.array_equal(saved[key], array) for key, array in live.items()
    )


def _scored_loss(model: Transformer, probe: np.ndarray) -> float:
    """Return nats per token of one window, (1 + tokens,), by the scorer's own kernel."""
    tokens, targets = _window(model, probe)
    return float(model.nats(tokens, targets).double().mean())


@torch.no_grad()
def _scorer_error(model: Transformer, probe: np.ndarray) -> float:
    tokens, targets = _window(model, probe)
    logits = model.logits(model.hidden_states(tokens)).double()
    nats = -torch.log_softmax(logits, dim=-1).gather(-1, targets[..., None])
    plain = nats.clamp(max=_LARGEST_NATS).mean()
    return float(abs(_scored_loss(model, probe) - plain) / plain)


def _window(model: Transformer, probe: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    """Return (1, tokens) inputs and targets on the model's device."""
    ids = torch.from_numpy(probe.astype(np.int64)).to(model.embed_tokens.weight.device)
    return ids[None, :-1], ids[None, 1:]
