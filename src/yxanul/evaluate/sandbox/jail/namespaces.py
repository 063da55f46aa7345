"""Namespaces: a process that sees no other process, no network and no file but the given ones.

The user namespace comes first and gives the right to make the others; where it is not allowed
(containers, hardened kernels) the call fails with an OSError.
"""

import os
import select

from yxanul.evaluate.sandbox.jail.linux import die_with_parent, give_up_privileges, libc_call

_NEW_USER, _NEW_MOUNTS, _NEW_PIDS = 0x10000000, 0x00020000, 0x20000000
_NEW_NETWORK, _NEW_IPC, _NEW_HOSTNAME = 0x40000000, 0x08000000, 0x04000000
_READ_ONLY, _NO_SUID, _NO_DEVICES, _NO_EXEC = 1, 2, 4, 8
_REMOUNT, _BIND, _RECURSIVE, _PRIVATE = 32, 4096, 16384, 1 << 18
_DETACH = 2
_INSIDE_ID = 1000  # not 0: execve gives capabilities to user 0

WORK = "/work"
MOST_FILES = 1000


def enter() -> None:
    """Move this process into new namespaces; its children get process numbers from 1 on."""
    user, group = os.geteuid(), os.getegid()
    kinds = _NEW_USER | _NEW_MOUNTS | _NEW_PIDS | _NEW_NETWORK | _NEW_IPC | _NEW_HOSTNAME
    libc_call("unshare", kinds)
    _write("/proc/self/setgroups", "deny")
    _write("/proc/self/uid_map", f"{_INSIDE_ID} {user} 1")
    _write("/proc/self/gid_map", f"{_INSIDE_ID} {group} 1")


def continue_below_first_process() -> None:
    """Return in a grandchild: process 2 of the namespace, an ordinary process.

    Process 1 would ignore signals that it sends to itself, so it only waits. When it is gone the
    kernel kills whatever is left of the namespace, and it dies with its parent. Both ancestors end
    as this process ends; a death by signal becomes the exit status 128 + signal.
    """
    alive, held = os.pipe()
    first = os.fork()
    if first:
        _end_as(first)
    os.close(held)
    die_with_parent()
    if select.select([alive], [], [], 0)[0]:  # its other end is closed: the parent is gone already
        os._exit(1)
    second = os.fork()
    if second:
        give_up_privileges()
        _end_as(second)


def _end_as(child: int) -> None:
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    os._exit(code if code >= 0 else 128 - code)


def show_only(paths: list[str], devices: tuple[str, ...], *, folder_bytes: int) -> None:
    """Make a new root of read-only views and an empty `/work` in memory, and go there.

    It is mounted on the current folder, of which nothing is seen any more. `/work` holds at most
    folder_bytes and 1,000 files.
    """
    folder = os.getcwd()
    libc_call("mount", None, b"/", None, _RECURSIVE | _PRIVATE, None)
    _mount_memory(folder, "size=1m,mode=755", flags=_NO_SUID | _NO_DEVICES)
    for path in paths:
        _show(path, folder + path)
    for device in devices:
        _place(device, folder + device)
        _bind(device, folder + device)
    os.mkdir(folder + WORK)
    limits = f"size={folder_bytes},nr_inodes={MOST_FILES},mode=700"
    _mount_memory(folder + WORK, limits, flags=_NO_SUID | _NO_DEVICES | _NO_EXEC)
    os.chdir(folder)
    libc_call("pivot_root", b".", b".")
    libc_call("umount2", b".", _DETACH)
    flags = _REMOUNT | _BIND | _READ_ONLY | _NO_SUID | _NO_DEVICES
    libc_call("mount", None, b"/", None, flags, None)
    os.chdir(WORK)


def _show(path: str, target: str) -> None:
    """Bind a file or folder, read-only; flags that the outer mount has must be kept."""
    _place(path, target)
    _bind(path, target)
    kept = os.statvfs(target).f_flag & _NO_EXEC
    flags = _REMOUNT | _BIND | _READ_ONLY | _NO_SUID | _NO_DEVICES | kept
    libc_call("mount", None, target.encode(), None, flags, None)


def _place(path: str, target: str) -> None:
    """Make an empty folder or file to mount on, like what stands at path."""
    if os.path.isdir(path):
        os.makedirs(target, exist_ok=True)
    else:
        os.makedirs(os.path.dirname(target), exist_ok=True)
        os.close(os.open(target, os.O_CREAT | os.O_WRONLY, 0o600))


def _bind(path: str, target: str) -> None:
    source = os.path.realpath(path)
    libc_call("mount", source.encode(), target.encode(), None, _BIND | _RECURSIVE, None)


def _mount_memory(place: str, options: str, *, flags: int) -> None:
    libc_call("mount", b"tmpfs", place.encode(), b"tmpfs", flags, options.encode())


def _write(path: str, text: str) -> None:
    with open(path, "w", encoding="ascii") as file:
        file.write(text)
