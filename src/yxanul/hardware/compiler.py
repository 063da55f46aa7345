"""Whether torch.compile can work here, found out without compiling anything.

The rules are those of torch's own back ends: Inductor calls one C++ compiler by name, Triton builds
its launchers with a C compiler when the first kernel starts, and both include Python.h.
"""

import os
import shutil
import sys
import sysconfig
from importlib.util import find_spec
from pathlib import Path

import torch


def cxx_compiler() -> str | None:
    """Return the path of the C++ compiler that torch.compile calls on a CPU; None: not found."""
    return shutil.which(_cxx_name())


def c_compiler() -> str | None:
    """Return the path of a C compiler; None: not found."""
    names = [os.environ["CC"]] if os.environ.get("CC") else ["gcc", "clang", "cc"]
    return next((path for path in map(shutil.which, names) if path is not None), None)


def compile_obstacle(device: torch.device) -> str | None:
    """Return what torch.compile misses on this machine and what to do; None: nothing is missing."""
    obstacle = _triton_obstacle() if device.type == "cuda" else _cxx_obstacle()
    return obstacle or _headers_obstacle(device)


def _cxx_name() -> str:
    return os.environ.get("CXX", "clang++" if sys.platform == "darwin" else "g++")


def _cxx_obstacle() -> str | None:
    if cxx_compiler() is None:
        return (
            f"needs a C++ compiler, and {_cxx_name() or 'the empty CXX'} is not on PATH; "
            "install one or name one with CXX"
        )
    return None


def _headers_obstacle(device: torch.device) -> str | None:
    scheme = sysconfig.get_default_scheme()
    if device.type == "cuda" and scheme == "posix_local":
        scheme = "posix_prefix"  # where triton looks, and where Debian's python3-dev lays them
    include = Path(sysconfig.get_path("include", scheme))
    if not (include / "Python.h").exists() and sys.platform != "darwin":
        return f"needs Python's headers, and {include} has no Python.h; install python3-dev"
    return None


def _triton_obstacle() -> str | None:
    if find_spec("triton") is None:
        return "needs triton, which is not installed; install torch's CUDA build"
    if c_compiler() is None:
        return "needs a C compiler for triton, and there is none on PATH; install gcc"
    return None
