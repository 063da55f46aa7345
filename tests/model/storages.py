"""What lies where while tensors are worked on."""

from collections.abc import Sequence

import torch
from torch.utils._python_dispatch import TorchDispatchMode


class Storages(TorchDispatchMode):
    """Records where every tensor of a shape lies that an operation reads or makes.

    With `keep` they live until the end, so that no place is taken by two of them; what gives its
    memory on, as a gradient does, is better not kept.
    """

    def __init__(self, shape: Sequence[int], *, keep: bool = False) -> None:
        super().__init__()
        self.shape, self.found = torch.Size(shape), set()
        self._kept = [] if keep else None

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for tensor in (*args, result):
            if isinstance(tensor, torch.Tensor) and tensor.shape == self.shape:
                self.found.add(tensor.untyped_storage().data_ptr())
                if self._kept is not None:
                    self._kept.append(tensor)
        return result
