"""Attacks by making processes or threads, and on processes outside. Signal 0 only asks."""

from yxanul.evaluate.sandbox.attacks.attack import BARE_CALLS, MARK, Attack

_MAKING = {
    "fork": """
import os
child = os.fork()
if not child:
    os._exit(0)
os.waitpid(child, 0)
""",
    "start a thread": "import threading; threading.Thread(target=print).start()",
    "start a thread that outlives the program": """
import _thread, time
_thread.start_new_thread(time.sleep, (60,))
""",
    "start a program": "import subprocess; subprocess.run(['/bin/true'], check=True)",
    "start a program by posix_spawn": """
import os
os.waitpid(os.posix_spawn('/bin/true', ['true'], {}), 0)
""",
    "leave a process behind": """
import os, time
if not os.fork():
    os.setsid()
    time.sleep(3)
    os._exit(0)
""",
    "become another program": f"""
import os, sys
os.execv(sys.executable, [sys.executable, '-I', '-c', 'raise SystemExit("{MARK}")'])
""",
}
_RAW_MAKING = {
    "fork by a bare system call": """
child = syscall(57, 220, 17, 0, 0, 0, 0)  # fork on x86_64, clone(SIGCHLD) on aarch64
if not child:
    os._exit(0)
os.waitpid(child, 0)
""",
    "clone by a bare system call": """
child = syscall(56, 220, 17, 0, 0, 0, 0)
if not child:
    os._exit(0)
os.waitpid(child, 0)
""",
    "clone3 by a bare system call": """
child = syscall(435, 435, (ctypes.c_uint64 * 8)(0, 0, 0, 0, 17), 64)
if not child:
    os._exit(0)
os.waitpid(child, 0)
""",
}
_TOUCHING = {
    "signal the harness": "import os; os.kill($harness, 0)",
    "signal the harness's group": "import os; os.killpg(os.getpgid($harness), 0)",
    "signal its own group": "import os; os.kill(0, 0)",
    "signal every process": "import os; os.kill(-1, 0)",
    "signal the harness through a descriptor": "import os; os.pidfd_open($harness)",
    "signal the harness by owning a pipe": """
import fcntl
fcntl.fcntl(4, 8, $harness)  # F_SETOWN
""",
    "read the harness's limits": "import resource; resource.prlimit($harness, resource.RLIMIT_AS)",
    "move the harness to other cores": """
import os
os.sched_setaffinity($harness, os.sched_getaffinity(0))
""",
    "slow the harness down": "import os; os.setpriority(os.PRIO_PROCESS, $harness, 0)",
}
_RAW_TOUCHING = {
    "make a file in memory to execute": "os.memfd_create('x')",
    "execute by a descriptor": f"""
import sys
python = os.open(sys.executable, os.O_RDONLY)
words = [sys.executable, '-I', '-c', 'raise SystemExit("{MARK}")']
argv = (ctypes.c_char_p * 5)(*(word.encode() for word in words), None)
syscall(322, 281, python, b'', argv, None, 0x1000)
""",
    "trace a process": "checked(libc.ptrace(0, 0, 0, 0))",
    "read the memory of a process": """
here = ctypes.create_string_buffer(8)
place = (ctypes.c_size_t * 2)(ctypes.addressof(here), 8)
checked(libc.process_vm_readv(os.getpid(), place, 1, place, 1, 0))
""",
    "outlive the harness": "checked(libc.prctl(1, 0, 0, 0, 0))  # PR_SET_PDEATHSIG",
    "send a queued signal to the harness": "checked(libc.sigqueue($harness, 0, None))",
}
_FORK_BOMB = "import os\nwhile True: os.fork()"
_RAISING = """
import resource
_, most = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (most + 1, most + 1))
"""

# RLIMIT_NPROC, in force at every level, keeps all but root from making processes.
ATTACKS = [
    *(Attack(name, program, control=True, needs_root=True) for name, program in _MAKING.items()),
    *(
        Attack(name, BARE_CALLS + program, ctypes=True, control=True, needs_root=True)
        for name, program in _RAW_MAKING.items()
    ),
    *(Attack(name, program, control=True) for name, program in _TOUCHING.items()),
    *(
        Attack(name, BARE_CALLS + program, ctypes=True, control=True)
        for name, program in _RAW_TOUCHING.items()
    ),
    Attack("fork for ever", _FORK_BOMB, in_self_test=False),
    Attack("raise its own limits", _RAISING, ends_as=("ValueError: not allowed",)),
]
