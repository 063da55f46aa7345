"""System calls that `os` does not offer; a refused one is an OSError that names the call."""

import ctypes
import os

ARCHITECTURES = ("x86_64", "aarch64")
_PR_SET_PDEATHSIG, _PR_SET_NO_NEW_PRIVS = 1, 38
_SIGKILL = 9
_CAPABILITY_VERSION_3 = 0x20080522


def libc_call(name: str, *arguments: object) -> int:
    """Call a function of the C library by name; a negative result is raised as an OSError.

    Integers go as whole registers: `syscall` and `prctl` are variadic.
    """
    function = getattr(ctypes.CDLL(None, use_errno=True), name)
    function.restype = ctypes.c_long
    words = [ctypes.c_long(item) if isinstance(item, int) else item for item in arguments]
    result = int(function(*words))
    # The functions that return an int leave the upper half of the register undefined.
    if ctypes.c_int(result).value == -1:
        code = ctypes.get_errno()
        raise OSError(code, f"{os.strerror(code)} ({name})")
    return result


def die_with_parent() -> None:
    """Have the kernel kill this process as soon as the thread that started it is gone."""
    libc_call("prctl", _PR_SET_PDEATHSIG, _SIGKILL, 0, 0, 0)


def give_up_privileges() -> None:
    """Drop every capability for good, also for root: with no_new_privs execve gives none back."""
    libc_call("prctl", _PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    nothing = (ctypes.c_uint32 * 6)()
    libc_call("capset", header, nothing)
