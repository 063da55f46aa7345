"""The resource limits of one program, held by the kernel; inherited and never raised again."""

import resource

_MOST_STACK_BYTES = 8 << 20
# Held by other means too, and not known on every system.
_NOTHING = ("RLIMIT_CORE", "RLIMIT_NPROC", "RLIMIT_MEMLOCK", "RLIMIT_MSGQUEUE")


def apply(*, memory_bytes: int, cpu_s: int, file_bytes: int, open_files: int) -> None:
    """Set soft and hard limits; a limit that the system lacks, or holds lower, stays as it is.

    macOS does not hold a process to its address space.
    """
    wanted = {
        "RLIMIT_AS": memory_bytes,
        "RLIMIT_CPU": cpu_s,
        "RLIMIT_FSIZE": file_bytes,
        "RLIMIT_NOFILE": open_files,
        "RLIMIT_STACK": _MOST_STACK_BYTES,
    }
    wanted |= dict.fromkeys(_NOTHING, 0)
    for name, value in wanted.items():
        kind = getattr(resource, name, None)
        if kind is not None:
            _lower(kind, value)


def _lower(kind: int, value: int) -> None:
    _, hard = resource.getrlimit(kind)
    if hard == resource.RLIM_INFINITY or value < hard:
        resource.setrlimit(kind, (value, value))
