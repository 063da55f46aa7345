"""Who moves which parameter: the optimizer's state shared between ranks (ZeRO-1, arXiv 1910.02054).

Every rank has all gradients, since they were averaged over all. A parameter's moments lie with its
owner alone, which moves it and sends it to the others. Nothing in a checkpoint tells of owners: it
holds whole moments, and any number of ranks can take them up.
"""

from collections.abc import Iterable, Mapping

import torch
import torch.distributed as dist
from torch import Tensor

from yxanul.parallel.processes import Processes


def share_out(groups: Iterable[Mapping[str, Tensor]], ranks: int) -> dict[str, int]:
    """Return {name: owner}: each group's parameters by size, to whoever holds least of it so far.

    Groups are shared out one by one, since an update of a matrix may cost more than one of another
    group's number. Between ranks that hold as much of the group, the one with less in all is taken.
    """
    owners: dict[str, int] = {}
    held = [0] * ranks
    for group in groups:
        of_group = [0] * ranks
        for name in sorted(group, key=lambda name: (-group[name].numel(), name)):
            owner = min(range(ranks), key=lambda rank: (of_group[rank], held[rank], rank))
            owners[name] = owner
            of_group[owner] += group[name].numel()
            held[owner] += group[name].numel()
    return owners


class Shares:
    """This rank's part of a model's parameters; alone, all of them."""

    def __init__(self, groups: Iterable[Mapping[str, Tensor]], processes: Processes) -> None:
        self._me = processes
        self._owners = share_out(groups, processes.world_size)

    def is_mine(self, name: str) -> bool:
        """Tell whether this rank moves the parameter."""
        return self._owners[name] == self._me.rank

    @torch.no_grad()
    def publish(self, parameters: Mapping[str, Tensor]) -> None:
        """Give every rank the parameters as their owners have moved them; all ranks call it."""
        if self._me.world_size == 1:
            return
        for owner in range(self._me.world_size):
            moved = [p.data for name, p in parameters.items() if self._owners[name] == owner]
            if not moved:
                continue
            # One rank's at a time: what is copied for sending stays small.
            if owner == self._me.rank:
                together = torch.cat([p.flatten() for p in moved])
            else:  # room for what comes, not a copy of what it replaces
                together = moved[0].new_empty(sum(p.numel() for p in moved))
            dist.broadcast(together, src=owner)
            if owner != self._me.rank:
                news = torch.split(together, [p.numel() for p in moved])
                torch._foreach_copy_(
                    moved, [n.view_as(p) for n, p in zip(news, moved, strict=True)]
                )

    def at_main(
        self, name: str, tensor: Tensor | None, *, shape: torch.Size, device: torch.device
    ) -> Tensor | None:
        """Bring an owner's fp32 tensor of a parameter to the main rank; all ranks call it.

        Returns what this rank has of it then: None where it is neither owner nor main. What was
        brought lies in the main rank's own memory, not on its card.
        """
        owner = self._owners[name]
        if owner == 0:
            return tensor
        if self._me.rank == owner and tensor is not None:
            dist.send(tensor.contiguous(), dst=0)
        elif self._me.is_main:
            brought = torch.empty(shape, dtype=torch.float32, device=device)
            dist.recv(brought, src=owner)
            return brought.cpu()
        return tensor
