"""Which files CPython needs to start and to import its standard library."""

import os
import sys

from yxanul.evaluate.sandbox.jail import landlock

DEVICES = ("/dev/null", "/dev/urandom")
_SYSTEM = ("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib")
_SYSTEM_DATA = ("/etc/ld.so.cache", "/usr/share/zoneinfo")


def readable() -> list[str]:
    """Return existing files and folders, none of them beneath another.

    Libraries that this interpreter has mapped are among them, for systems that keep theirs in
    places of their own.
    """
    home = os.path.realpath(os.path.join(sys.base_prefix, "lib"))
    paths = {*executable(), home, *_SYSTEM, *_SYSTEM_DATA, *_mapped()}
    present = sorted(path for path in paths if os.path.exists(path))
    return [p for p in present if not any(p.startswith(f"{other}/") for other in present)]


def executable() -> list[str]:
    """Return the interpreter and its dynamic loader, if it has one."""
    loaders = [name for name in _mapped() if os.path.basename(name).startswith("ld-")]
    return [os.path.realpath(sys.executable), *loaders]


def rights(readable_paths: list[str], executable_paths: list[str]) -> dict[str, int]:
    """Return the Landlock rights per path, with the current folder as the program's own."""
    given = {
        path: landlock.READ_TREE if os.path.isdir(path) else landlock.READ_FILE
        for path in readable_paths
    }
    given |= dict.fromkeys(executable_paths, landlock.READ_FILE | landlock.EXECUTE)
    given |= {"/dev/null": landlock.READ_FILE | landlock.WRITE_FILE}
    return given | {"/dev/urandom": landlock.READ_FILE, os.getcwd(): landlock.OWN_FOLDER}


def _mapped() -> list[str]:
    with open("/proc/self/maps", encoding="utf-8", errors="surrogateescape") as file:
        names = {line.rstrip("\n").split(maxsplit=5)[-1] for line in file}
    return sorted(name for name in names if name.startswith("/") and ".so" in name)
