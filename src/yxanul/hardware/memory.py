"""How freed memory is kept, by glibc's malloc and by torch's allocator on a card; and none left.

Large activations are otherwise given back to the system and faulted in again at every step. On a
card torch keeps what was freed, in pieces of the size that was asked for, which do not fit the next
phase's sequences; in segments that grow they do. Loads no torch, which reads its variable once.
"""

import ctypes
import errno
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager

from yxanul.errors import InfrastructureError, first_line
from yxanul.runfolder.durable import number_of

_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_ALLOCATOR = "PYTORCH_ALLOC_CONF"
_NAMES = (_ALLOCATOR, "PYTORCH_CUDA_ALLOC_CONF")  # torch's word for it until 2.9
GROWING = "expandable_segments:True"
"""What a program of ours asks of torch's allocator on a card, unless the user asks otherwise."""
# Of glibc and torch on a CPU; of CUDA, its driver and Triton; of cuBLAS and cuDNN.
_NO_MEMORY = (
    "can't allocate memory",
    "Cannot allocate memory",
    "out of memory",
    "STATUS_ALLOC_FAILED",
    "ALLOCATION_FAILED",  # cuDNN since 9, on the card or on the machine
    "CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate",  # its first handle had no room
)


def settle_allocator() -> None:
    """Let segments of a card's memory grow; it must run before torch is loaded."""
    if allocator_settings() is None:
        os.environ[_ALLOCATOR] = GROWING


def allocator_settings() -> tuple[str, str] | None:
    """Return (variable, what it asks of torch's allocator on a card); None: nothing is asked."""
    return next(((name, os.environ[name]) for name in _NAMES if os.environ.get(name)), None)


def keep_freed_memory() -> str:
    """Raise malloc's thresholds for this process; return one phrase that says what happened.

    Worth 1.2x and more per step on a CPU. It must run before the first large allocation.
    """
    if platform.libc_ver()[0] != "glibc":
        return "not available (no glibc)"
    libc = ctypes.CDLL(None)
    accepted = libc.mallopt(_M_MMAP_THRESHOLD, 1 << 30) and libc.mallopt(
        _M_TRIM_THRESHOLD, (1 << 31) - 1
    )
    return "active" if accepted else "refused by mallopt"


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether memory was not there, on the machine or on a card.

    torch has a class for what its own allocator is refused, and none for what libraries are.
    """
    if number_of(error) == errno.ENOMEM:
        return True
    if isinstance(error, RuntimeError) and any(words in str(error) for words in _NO_MEMORY):
        return True
    kinds = {kind.__name__ for kind in type(error).__mro__}
    return bool(kinds & {"MemoryError", "OutOfMemoryError"})


@contextmanager
def naming_exhaustion(advice: str) -> Iterator[None]:
    """Turn memory that is not there into an `InfrastructureError` that says what helps."""
    try:
        yield
    except (MemoryError, RuntimeError, OSError) as error:
        if not is_out_of_memory(error):
            raise
        raise exhaustion(error, advice) from error


def exhaustion(error: BaseException, advice: str) -> InfrastructureError:
    """Return what to raise for memory that was not there; `advice` says what helps."""
    told = first_line(error) if str(error) else "the machine gives no more"
    return InfrastructureError(f"out of memory ({told}); {advice}")
