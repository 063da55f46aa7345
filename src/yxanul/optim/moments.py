"""The optimizer's state as a checkpoint holds it: {"exp_avg.<parameter>": fp32 tensor, ...}.

And "updates", the number of them; before the first there are no moments. It is free of any engine's
format and of any number of ranks.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

UPDATES = "updates"
Moment = tuple[str, str]
"""Name of a parameter, and of one of its moments."""


def key_of(moment: Moment) -> str:
    """Return the moment's key in a checkpoint."""
    parameter, name = moment
    return f"{name}.{parameter}"


def count_of(updates: int) -> dict[str, Tensor]:
    """Return the state's entry for the number of updates."""
    return {UPDATES: torch.tensor(updates, dtype=torch.int64)}


def checked_updates(tensors: Mapping[str, Tensor], moments: Mapping[Moment, torch.Size]) -> int:
    """Return the number of updates of a state that has exactly these moments, in their shapes.

    Raises ValueError when any is missing, extra or misshapen.
    """
    updates = tensors.get(UPDATES)
    if updates is None or updates.dtype != torch.int64 or updates.dim() != 0 or updates < 0:
        raise ValueError("the optimizer state holds no number of updates")
    wanted = {key_of(moment): shape for moment, shape in moments.items()} if updates else {}
    other = sorted(wanted.keys() ^ (tensors.keys() - {UPDATES}))
    for key, shape in wanted.items():
        found = tensors.get(key)
        if found is not None and (found.shape != shape or found.dtype != torch.float32):
            other.append(key)
    if other:
        raise ValueError(f"the optimizer state {other[0]} is missing, extra or misshapen")
    return int(updates)
