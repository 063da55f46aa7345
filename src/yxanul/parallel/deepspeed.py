"""DeepSpeed's ZeRO-1 around a model (arXiv 1910.02054): each rank has a part of AdamW's moments.

DeepSpeed lays the parameters of a group end to end, cuts them into one piece per rank, and keeps a
second copy of a rank's own piece. The model's parameters are this program's truth: that copy is
taken from them before every update, so that whoever loads weights need not know of it.
"""

import contextlib
import importlib
import logging
import os
import sys
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

_MOMENTS = ("exp_avg", "exp_avg_sq")


class DeepSpeedReplica:
    """A model under DeepSpeed, with the AdamW that it drives."""

    def __init__(
        self,
        model: nn.Module,
        adamw: torch.optim.AdamW,
        *,
        settings: Mapping[str, Any],
        device: torch.device,
    ) -> None:
        deepspeed = _deepspeed(device)
        # What it prints would stand in the middle of a program's JSON.
        with contextlib.redirect_stdout(sys.stderr):
            self._engine, *_ = deepspeed.initialize(
                model=model, optimizer=adamw, config=dict(settings), dist_init_required=False
            )
        self._get = deepspeed.utils.safe_get_full_optimizer_state
        self._set = deepspeed.utils.safe_set_full_optimizer_state
        self.adamw = adamw
        self._device = device

    def accumulate(
        self, tokens: Tensor, targets: Tensor, *, bounds: Tensor | None, scale: float, last: bool
    ) -> Tensor:
        """Add the gradients of a micro-batch; they are exchanged once, with the last."""
        self._engine.set_gradient_accumulation_boundary(last)
        nats: Tensor = self._engine(tokens, targets, bounds=bounds)
        self._engine.backward(nats * scale, scale_wrt_gas=False)
        return nats.detach()

    def grad_norm(self) -> Tensor:
        """Return the joint L2 norm of the exchanged gradients, 0-D, before any clipping.

        One that is not finite is infinite here.
        """
        norm = self._engine.optimizer.scaled_global_norm()
        # DeepSpeed says -1 for what is not finite.
        return torch.where(norm < 0, torch.full_like(norm, torch.inf), norm)

    def update(self) -> None:
        """Clip the gradients and move the weights, on every rank."""
        self._engine.optimizer.refresh_fp32_params()
        self._engine.step()

    def drop_gradients(self) -> None:
        """Forget the exchanged gradients, as DeepSpeed itself does after an overflow."""
        optimizer = self._engine.optimizer
        optimizer.zero_grad(set_to_none=True)
        for group in optimizer.averaged_gradients:
            optimizer.averaged_gradients[group] = None

    def moment(self, parameter: nn.Parameter, name: str) -> Tensor:
        """Return a whole moment, gathered from the ranks; all of them call it."""
        self._link()
        found: Tensor = self._get(parameter, name)
        return found

    def begin_moments(self, updates: int) -> None:
        """Set all moments to 0 after so many updates; after none there are no moments."""
        state = self.adamw.state
        state.clear()
        for group in self.adamw.param_groups if updates else ():
            for piece in group["params"]:
                place = self._device if self.adamw.defaults["fused"] else torch.device("cpu")
                state[piece] = {
                    "step": torch.tensor(float(updates), device=place),
                    **{moment: torch.zeros_like(piece) for moment in _MOMENTS},
                }

    def set_moment(self, parameter: nn.Parameter, name: str, *, whole: Tensor) -> None:
        """Set this rank's piece of a moment from the whole one."""
        self._link()
        self._set(parameter, whole.to(self._device), name)

    def _link(self) -> None:
        """Let DeepSpeed find the moments: it looks for them once, and they come and go here."""
        optimizer = self._engine.optimizer
        optimizer._hp_optimizer_states_linked = False
        optimizer._lazy_init_hp_params_optimizer_state()


def _deepspeed(device: torch.device) -> Any:
    """Import DeepSpeed for a kind of device, without its own words and its own compiler."""
    os.environ["DS_ACCELERATOR"] = device.type
    os.environ.setdefault("LOCAL_RANK", "0")  # which a process without a launcher lacks
    with contextlib.redirect_stdout(sys.stderr):
        deepspeed = importlib.import_module("deepspeed")
        if device.type == "cpu":
            # An exchange over shared memory, for which it would call ninja and g++ at every start.
            # Only there: asking for the list tries to build all that it names.
            deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    for handler in logging.getLogger("DeepSpeed").handlers:
        handler.setLevel(logging.ERROR)
    return deepspeed
