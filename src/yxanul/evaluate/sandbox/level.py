"""Which sandbox this machine offers: the best level that its self-test passed, not what it claims.

- L3: user, process, mount, network and IPC namespaces, Landlock, seccomp, resource limits
- L2: Landlock, seccomp, resource limits (containers that forbid user namespaces)
- L1: resource limits only; programs are refused

Before the first program the attack list (`attacks/`) is run once in every process of ours: a level
counts if harmless programs pass and every attack is contained.
"""

import platform
import sys
import threading
from dataclasses import dataclass

from yxanul.evaluate.sandbox.jail.linux import ARCHITECTURES
from yxanul.evaluate.sandbox.process import LevelName
from yxanul.evaluate.sandbox.self_test import problem_at

_ADVICE = {
    "L3": "user namespaces give level L3: run outside the container, or allow them",
    "L2": "levels L2 and L3 need Linux 5.13 or later on x86_64 or aarch64, with Landlock enabled "
    "(`lsm=` of the kernel's command line) and allowed by the container",
}


@dataclass(frozen=True)
class SandboxLevel:
    """What the self-test found."""

    name: LevelName
    runs_programs: bool
    why: str
    """What holds, what is missing and what to do about it."""


_found: list[SandboxLevel] = []
_finding = threading.Lock()


def sandbox_level() -> SandboxLevel:
    """Return this machine's level; the first call runs the self-test, a few seconds."""
    with _finding:
        if not _found:
            _found.append(_best_level())
        return _found[0]


def _best_level() -> SandboxLevel:
    if sys.platform != "linux" or platform.machine() not in ARCHITECTURES:
        here = f"{platform.system()} on {platform.machine()}"
        return SandboxLevel("L1", False, f"resource limits only on {here}; {_ADVICE['L2']}")
    no_third = problem_at("L3")
    if not no_third:
        held = "namespaces, Landlock, seccomp and resource limits contained every attack"
        return SandboxLevel("L3", True, held)
    no_second = problem_at("L2")
    if not no_second:
        held = "Landlock, seccomp and resource limits contained every attack"
        return SandboxLevel("L2", True, f"{held}; not L3: {no_third}; {_ADVICE['L3']}")
    return SandboxLevel("L1", False, f"not L2: {no_second}; {_ADVICE['L2']}")
