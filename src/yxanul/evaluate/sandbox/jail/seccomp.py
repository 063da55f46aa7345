"""The filter of system calls: an allow-list in classic BPF, kept by the kernel until the end.

A call that is not on the list fails with EPERM, so that a program meets an ordinary OSError; the
wrong architecture, or a number of x86's x32 table, ends the process. Some calls are allowed for
certain arguments only:

- kill, tgkill: to the process itself. fcntl: no F_SETOWN, which sends signals too.
- prlimit64: the process's own limits. ioctl: questions about an open file.
- open, openat: not O_TRUNC with O_RDONLY, which Landlock holds from ABI 3 only.
- execve: from the one address at which the jail holds the interpreter's name. The new program's
  memory is laid out anew, at random, so it cannot name that address again.
"""

import ctypes
import os
import struct

from yxanul.evaluate.sandbox.jail.linux import libc_call
from yxanul.evaluate.sandbox.jail.syscalls import ALLOWED, CHECKED, FIRST_OPTIONAL, number

_AUDIT_ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_X32_NUMBERS = 0x40000000
_LOAD, _JUMP_EQUAL, _JUMP_NOT_BELOW, _AND, _RETURN = 0x20, 0x15, 0x35, 0x54, 0x06
_ALLOW, _KILL_PROCESS, _ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
_EPERM, _ENOSYS = 1, 38
_NUMBER_AT, _ARCHITECTURE_AT, _ARGUMENTS_AT = 0, 4, 16
_PR_SET_SECCOMP, _FILTER_MODE = 22, 2

_FCNTL_COMMANDS = (0, 1, 2, 3, 4, 1030)  # F_DUPFD, F_GETFD to F_SETFL, F_DUPFD_CLOEXEC
# TCGETS, TIOCGWINSZ, FIONREAD, FIONBIO, FIONCLEX, FIOCLEX
_IOCTL_REQUESTS = (0x5401, 0x5413, 0x541B, 0x5421, 0x5450, 0x5451)

_Code = list[tuple[int, int, int, int]]


def _load(offset: int) -> _Code:
    return [(_LOAD, 0, 0, offset)]


def _low_word(argument: int) -> int:
    """Return the offset of an argument's lower 32 bits; both architectures are little-endian."""
    return _ARGUMENTS_AT + 8 * argument


def _answer(value: int) -> _Code:
    return [(_RETURN, 0, 0, value)]


def _refuse(error: int = _EPERM) -> _Code:
    return _answer(_ERRNO | error)


def _if_equal(value: int, then: _Code) -> _Code:
    return [(_JUMP_EQUAL, 0, len(then), value), *then]


def _argument_is_one_of(argument: int, values: tuple[int, ...]) -> _Code:
    """Allow the call if an int argument has one of the values."""
    code = _load(_low_word(argument))
    for value in values:
        code += _if_equal(value & 0xFFFFFFFF, _answer(_ALLOW))
    return code + _refuse()


def _no_truncation_while_reading(argument: int) -> _Code:
    flags = [(_AND, 0, 0, os.O_TRUNC | os.O_ACCMODE)]
    truncates = _if_equal(os.O_TRUNC | os.O_RDONLY, _refuse())
    return _load(_low_word(argument)) + flags + truncates + _answer(_ALLOW)


def _argument_is_address(argument: int, address: int) -> _Code:
    low, high = address & 0xFFFFFFFF, address >> 32
    low_matches = _load(_low_word(argument)) + _if_equal(low, _answer(_ALLOW))
    return _load(_low_word(argument) + 4) + _if_equal(high, low_matches) + _refuse()


def filter_code(architecture: str, pid: int, *, execve_address: int) -> bytes:
    """Return the filter as an array of `struct sock_filter`.

    pid is the process's own number, execve_address that of the name it may execute.
    """
    checks = {
        "kill": _argument_is_one_of(0, (pid,)),
        "tgkill": _argument_is_one_of(0, (pid,)),
        "prlimit64": _argument_is_one_of(0, (0, pid)),
        "fcntl": _argument_is_one_of(1, _FCNTL_COMMANDS),
        "ioctl": _argument_is_one_of(1, _IOCTL_REQUESTS),
        "open": _no_truncation_while_reading(1),
        "openat": _no_truncation_while_reading(2),
        "execve": _argument_is_address(0, execve_address),
    }
    code = _load(_ARCHITECTURE_AT)
    code += [(_JUMP_EQUAL, 1, 0, _AUDIT_ARCHITECTURES[architecture]), *_answer(_KILL_PROCESS)]
    code += _load(_NUMBER_AT)
    code += [(_JUMP_NOT_BELOW, 0, 1, _X32_NUMBERS), *_answer(_KILL_PROCESS)]
    for pair in ALLOWED.values():
        code += _for_number(number(pair, architecture), _answer(_ALLOW))
    for name, pair in CHECKED.items():
        code += _for_number(number(pair, architecture), checks[name])
    code += [(_JUMP_NOT_BELOW, 0, 1, FIRST_OPTIONAL), *_refuse(_ENOSYS)]
    code += _refuse()
    return b"".join(struct.pack("<HBBI", *instruction) for instruction in code)


def _for_number(call: int | None, then: _Code) -> _Code:
    return [] if call is None else _if_equal(call, then)


def install(code: bytes) -> None:
    """Filter every later call of this process and its children; needs no_new_privs.

    Raises:
        OSError: the kernel or a container's own filter does not allow it.
    """

    class Program(ctypes.Structure):
        _fields_ = (("length", ctypes.c_ushort), ("code", ctypes.c_char_p))

    program = Program(len(code) // 8, code)
    libc_call("prctl", _PR_SET_SECCOMP, _FILTER_MODE, ctypes.byref(program), 0, 0)
