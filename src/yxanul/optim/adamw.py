"""torch's AdamW over groups of parameters (arXiv 1711.05101), and what its moments are called."""

from collections.abc import Mapping, Sequence

import torch
from torch import nn

from yxanul.config.schema import OptimizerConfig

ADAMW_MOMENTS = ("exp_avg", "exp_avg_sq")


def adamw(
    groups: Mapping[str, Sequence[nn.Parameter]], config: OptimizerConfig
) -> torch.optim.AdamW:
    """Return AdamW for {group: its parameters}; weight decay acts on matrices only.

    Each group has its name beside its rate, which is 0 until an update sets it.
    """
    return torch.optim.AdamW(
        [
            {
                "params": list(parameters),
                "name": group,
                "weight_decay": config.weight_decay if group == "matrices" else 0.0,
            }
            for group, parameters in groups.items()
        ],
        lr=0.0,
        betas=(config.beta1, config.beta2),
        eps=config.eps,
        # Not false: it would keep torch from the next best, all tensors at once on a card.
        fused=config.fused or None,
    )
