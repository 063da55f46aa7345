"""Attacks through the network and through rarely used doors of the kernel."""

import platform

from yxanul.evaluate.sandbox.attacks.attack import BARE_CALLS, Attack

_PROGRAMS = {
    "open a TCP socket": "import socket; socket.socket()",
    "open a UDP socket": "import socket; socket.socket(type=socket.SOCK_DGRAM)",
    "open a local socket": "import socket; socket.socket(socket.AF_UNIX)",
    "open a pair of sockets": "import socket; socket.socketpair()",
    "ask the kernel about networks": """
import socket
socket.socket(socket.AF_NETLINK, socket.SOCK_RAW)
""",
}
_RAW = {
    "open a socket by the C library": "checked(libc.socket(2, 1, 0))",
    "open a socket by a bare system call": "syscall(41, 198, 2, 1, 0)",
    "make a user namespace": "checked(libc.unshare(0x10000000))",
    "use io_uring": "syscall(425, 425, 1, (ctypes.c_char * 120)())",
    "use a key ring": "syscall(250, 219, 0, -3, 0)  # KEYCTL_GET_KEYRING_ID of the session",
    "use shared memory of System V": """
checked(libc.shmctl(checked(libc.shmget(0, 4096, 0o1600)), 0, 0))
""",
    "set a timer that signals": """
timer = ctypes.c_void_p()
checked(libc.timer_create(0, None, ctypes.byref(timer)))
""",
    "switch randomised addresses off": "checked(libc.personality(0x0040000))",
    "open itself to tracing": "checked(libc.prctl(4, 1, 0, 0, 0))  # PR_SET_DUMPABLE",
}
_ROOTS = {
    "mount a file system": "checked(libc.mount(b'x', b'.', b'tmpfs', 0, 0)); libc.umount(b'.')",
    "load a program into the kernel": """
syscall(321, 280, 0, (ctypes.c_uint32 * 18)(1, 4, 8, 1), 72)  # BPF_MAP_CREATE
""",
    "handle page faults": "syscall(323, 282, 0)",
    "watch the machine's performance": """
syscall(298, 241, (ctypes.c_uint32 * 32)(1, 128), 0, -1, -1, 0)
""",
    "read the kernel's log": "checked(libc.klogctl(10, None, 0))",
    "rename the machine": """
import socket
name = socket.gethostname()
checked(libc.sethostname(name.encode(), len(name)))
""",
}
_OF_ANOTHER_TABLE = {
    "make a 32-bit system call": """
import mmap
code = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
code.write(bytes.fromhex('b814000000' 'cd80' 'c3'))  # mov eax, 20 (getpid); int 0x80; ret
address = ctypes.addressof(ctypes.c_char.from_buffer(code))
assert ctypes.CFUNCTYPE(ctypes.c_int)(address)() > 0
""",
    "make an x32 system call": "syscall(0x40000000 + 39, 0x40000000)  # getpid",
}

ATTACKS = [
    *(Attack(name, program, control=True) for name, program in _PROGRAMS.items()),
    *(
        Attack(name, BARE_CALLS + program, ctypes=True, control=True)
        for name, program in _RAW.items()
    ),
    *(
        Attack(name, BARE_CALLS + program, ctypes=True, control=True, needs_root=True)
        for name, program in _ROOTS.items()
    ),
]
if platform.machine() == "x86_64":
    # Kernels may be built without either, so there is no control.
    ATTACKS += [
        Attack(name, BARE_CALLS + program, ctypes=True, alone=True)
        for name, program in _OF_ANOTHER_TABLE.items()
    ]
