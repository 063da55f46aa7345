"""Landlock: the files that a process may open, and nothing else, without any privilege.

It does not hold stat, chdir, chmod, chown, utime and xattr of other files: seccomp.py refuses those
that change something. https://docs.kernel.org/userspace-api/landlock.html
"""

import ctypes
import os

from yxanul.evaluate.sandbox.jail.linux import libc_call

# The numbers are the same on every architecture.
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_ASK_VERSION, _RULE_PATH_BENEATH = 1, 1

EXECUTE, WRITE_FILE, READ_FILE, READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
REMOVE_FILE, MAKE_REG = 1 << 5, 1 << 8
TRUNCATE = 1 << 14
READ_TREE = READ_FILE | READ_DIR
OWN_FOLDER = READ_TREE | WRITE_FILE | REMOVE_FILE | MAKE_REG | TRUNCATE

# What each ABI can hold: file rights 0 to 12 first, then REFER, TRUNCATE, IOCTL_DEV.
_FILE_RIGHTS = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 5: (1 << 16) - 1}
_TCP_SINCE, _SCOPES_SINCE = 4, 6
_BIND_AND_CONNECT_TCP, _ABSTRACT_SOCKETS_AND_SIGNALS = 3, 3


def abi() -> int:
    """Return the kernel's Landlock ABI, 1 or more; OSError where it has none or it is off."""
    return libc_call("syscall", _CREATE_RULESET, None, 0, _ASK_VERSION)


def restrict(paths: dict[str, int]) -> None:
    """Forbid every file right to this process except those given per path, for good.

    A path stands for all that lies beneath it; one that does not exist is left out. No TCP (from
    ABI 4), no signal or abstract socket to a process outside (from ABI 6). Needs no_new_privs.
    """
    version = abi()
    rights = max(mask for since, mask in _FILE_RIGHTS.items() if since <= version)
    network = _BIND_AND_CONNECT_TCP if version >= _TCP_SINCE else 0
    scopes = _ABSTRACT_SOCKETS_AND_SIGNALS if version >= _SCOPES_SINCE else 0
    attributes = (ctypes.c_uint64 * 3)(rights, network, scopes)
    size = 8 * (3 if scopes else 2 if network else 1)
    ruleset = libc_call("syscall", _CREATE_RULESET, ctypes.byref(attributes), size, 0)
    for path, access in paths.items():
        if os.path.exists(path):
            _allow(ruleset, path, access=access & rights)
    libc_call("syscall", _RESTRICT_SELF, ruleset, 0)
    os.close(ruleset)


def _allow(ruleset: int, path: str, *, access: int) -> None:
    """Add one rule: struct landlock_path_beneath_attr is a packed u64 and s32."""
    place = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        rule = access.to_bytes(8, "little") + place.to_bytes(4, "little")
        libc_call("syscall", _ADD_RULE, ruleset, _RULE_PATH_BENEATH, rule, 0)
    finally:
        os.close(place)
