"""What a card, or the exchange between cards, fails with."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.distributed as dist

from yxanul.errors import InfrastructureError, first_line
from yxanul.hardware.memory import is_out_of_memory

LOOK_AT_CARD = "dmesg and nvidia-smi -q tell more; where it comes again: another machine"
"""What helps where a card fails."""
# torch's words, without a class, for cards that it counts and cannot begin to use.
_NO_ANSWER = (
    "CUDA driver initialization failed",
    "CUDA unknown error",
    "No CUDA GPUs are available",
    "Unexpected error from cudaGetDeviceCount",
)


@contextmanager
def naming_failed_hardware(advice: str = LOOK_AT_CARD) -> Iterator[None]:
    """Turn what a card or the exchange between cards fails with into an `InfrastructureError`."""
    try:
        yield
    except (RuntimeError, torch.cuda.DeferredCudaCallError) as error:
        if not is_of_hardware(error):
            raise
        raise InfrastructureError(
            f"a card failed, or the exchange between cards ({first_line(error)}); {advice}"
        ) from error


def is_of_hardware(error: Exception) -> bool:
    """Tell whether a card failed, or the exchange between cards; a full card is no failed one."""
    known = (
        torch.AcceleratorError,
        dist.DistBackendError,
        # Of a card's first use, when torch looks at all of them.
        torch.cuda.DeferredCudaCallError,
    )
    is_known = isinstance(error, known) or any(words in str(error) for words in _NO_ANSWER)
    return is_known and not is_out_of_memory(error)
