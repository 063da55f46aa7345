"""The system calls that a Python program may make, with their numbers on two architectures.

An allow-list, since what it forgets is refused: a deny-list must know every call that a later
kernel adds. It is what CPython 3.10 to 3.13 needs to start, to import its standard library and to
compute, with files in its own folder. Not here, on purpose: clone, fork, clone3 (processes and
threads), socket and its family, chmod, chown, utime and xattr (Landlock does not hold them), link,
symlink, mkdir (a folder stays flat), readlink, truncate by path, memfd_create, ptrace,
process_vm_*, pidfd_*, mount, unshare, setns, bpf, io_uring, keyctl, shm*, timer_create, prctl.
"""

# A pair is (x86_64, aarch64); None where an architecture has no such call.
ALLOWED: dict[str, tuple[int, int | None]] = {
    # memory
    "brk": (12, 214), "mmap": (9, 222), "mprotect": (10, 226), "munmap": (11, 215),
    "mremap": (25, 216), "madvise": (28, 233), "msync": (26, 227),
    # open files
    "read": (0, 63), "write": (1, 64), "readv": (19, 65), "writev": (20, 66),
    "pread64": (17, 67), "pwrite64": (18, 68), "lseek": (8, 62), "close": (3, 57),
    "ftruncate": (77, 46), "fsync": (74, 82), "fdatasync": (75, 83), "fadvise64": (221, 223),
    "getdents": (78, None), "getdents64": (217, 61), "dup": (32, 23), "dup2": (33, None),
    "dup3": (292, 24), "pipe": (22, None), "pipe2": (293, 59), "poll": (7, None),
    "ppoll": (271, 73), "select": (23, None), "pselect6": (270, 72),
    # names of files
    "creat": (85, None), "unlink": (87, None), "unlinkat": (263, 35), "rename": (82, None),
    "renameat": (264, 38), "renameat2": (316, 276), "access": (21, None), "faccessat": (269, 48),
    "faccessat2": (439, 439), "stat": (4, None), "lstat": (6, None), "fstat": (5, 80),
    "newfstatat": (262, 79), "statx": (332, 291), "getcwd": (79, 17), "umask": (95, 166),
    # time
    "clock_gettime": (228, 113), "clock_getres": (229, 114), "clock_nanosleep": (230, 115),
    "nanosleep": (35, 101), "gettimeofday": (96, 169), "time": (201, None), "times": (100, 153),
    "alarm": (37, None), "getitimer": (36, 102), "setitimer": (38, 103), "pause": (34, None),
    # the process itself
    "arch_prctl": (158, None), "set_tid_address": (218, 96), "set_robust_list": (273, 99),
    "rseq": (334, 293), "futex": (202, 98), "sched_yield": (24, 124),
    "sched_getaffinity": (204, 123), "getrandom": (318, 278), "uname": (63, 160),
    "sysinfo": (99, 179), "getrusage": (98, 165), "getrlimit": (97, 163), "getpid": (39, 172),
    "getppid": (110, 173), "gettid": (186, 178), "getpgrp": (111, None), "getuid": (102, 174),
    "geteuid": (107, 175), "getgid": (104, 176), "getegid": (108, 177), "getresuid": (118, 148),
    "getresgid": (120, 150), "getgroups": (115, 158), "exit": (60, 93), "exit_group": (231, 94),
    # its own signals
    "rt_sigaction": (13, 134), "rt_sigprocmask": (14, 135), "rt_sigreturn": (15, 139),
    "rt_sigpending": (127, 136), "rt_sigsuspend": (130, 133), "sigaltstack": (131, 132),
    "restart_syscall": (219, 128),
}  # fmt: skip

# Allowed for some arguments only: seccomp.py says which.
CHECKED: dict[str, tuple[int, int | None]] = {
    "kill": (62, 129), "tgkill": (234, 131), "prlimit64": (302, 261), "fcntl": (72, 25),
    "ioctl": (16, 29), "open": (2, None), "openat": (257, 56), "execve": (59, 221),
}  # fmt: skip

# From here on numbers are the same everywhere and younger than the C libraries in use, which ask
# again in an older way when they hear that a call does not exist.
FIRST_OPTIONAL = 424


def number(pair: tuple[int, int | None], architecture: str) -> int | None:
    """Return a call's number on x86_64 or aarch64, None where it does not exist."""
    return pair[0] if architecture == "x86_64" else pair[1]
