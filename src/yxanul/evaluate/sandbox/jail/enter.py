"""From a bare interpreter to a restricted one that runs one program: every step in its order.

The harness starts `main` in a bare interpreter and sends the secret and the program through stdin.
What this process may do shrinks step by step; the last step replaces it by a new interpreter
(`runner.py`), in whose memory nothing of the jail is left. A byte in the proof pipe tells the
harness that every restriction was in force before the program's first statement.
"""

import ctypes
import fcntl
import os
import sys

from yxanul.evaluate.sandbox.jail import landlock, limits, linux, namespaces, paths, seccomp

SECRET_BYTES = 32
RESTRICTED = b"R"
"""Written into the proof pipe when all restrictions are in force."""
SWITCHES = ("-I", "-S", "-B", "-X", "utf8")
"""Isolated, without site-packages, no bytecode written; text files are UTF-8."""
_SECRET, _PROOF = 3, 4
_ABOVE_ALL_IN_USE = 10


def main(arguments: list[str]) -> None:
    """Restrict this process, then become the program's interpreter; return never.

    arguments: the level, the harness's process number, the descriptor of the proof pipe, a word for
    `runner.py`; bytes of memory, seconds of CPU, bytes of a file, open files, bytes of the folder.
    A failure ends the process with a traceback before the program has begun.
    """
    level, harness, proof, word, *numbers = arguments
    memory_bytes, cpu_s, file_bytes, open_files, folder_bytes = (int(n) for n in numbers)
    if level != "L1":
        linux.die_with_parent()
    if os.getppid() != int(harness):
        sys.exit("the harness is gone")
    with open(0, "rb") as stdin:
        secret, program = stdin.read(SECRET_BYTES), stdin.read()
    with open(os.path.join(os.path.dirname(__file__), "runner.py"), encoding="utf-8") as file:
        command = [sys.executable, *SWITCHES, "-c", file.read(), word]
    _arrange_descriptors(secret, int(proof))
    readable, executable = ([], []) if level == "L1" else (paths.readable(), paths.executable())
    if level == "L3":
        namespaces.enter()
        namespaces.continue_below_first_process()
        namespaces.show_only(readable, paths.DEVICES, folder_bytes=folder_bytes)
    with open("program.py", "wb") as file:
        file.write(program)
    limits.apply(
        memory_bytes=memory_bytes, cpu_s=cpu_s, file_bytes=file_bytes, open_files=open_files
    )
    if level == "L1":
        os.write(_PROOF, RESTRICTED)
        os.execve(command[0], command, {})
    linux.give_up_privileges()
    landlock.restrict(paths.rights(readable, executable))
    _become(command)


def _arrange_descriptors(secret: bytes, proof: int) -> None:
    """Null as stdin, the secret to be read from 3, the proof to be written to 4.

    Every other descriptor is closed by execve. They are moved far up first, so that none is
    overwritten before its turn; the harness left the proof's first number open for execve.
    """
    reading, writing = os.pipe()
    os.write(writing, secret)
    os.close(writing)
    wanted = {0: os.open(os.devnull, os.O_RDONLY), _SECRET: reading, _PROOF: proof}
    moved = {
        place: fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, _ABOVE_ALL_IN_USE)
        for place, descriptor in wanted.items()
    }
    for descriptor in wanted.values():
        os.close(descriptor)
    for place, descriptor in moved.items():
        os.dup2(descriptor, place)


def _become(command: list[str]) -> None:
    """Filter system calls, say so, and execute the command, which the filter allows once."""
    name = ctypes.create_string_buffer(command[0].encode(errors="surrogateescape"))
    words = (ctypes.c_char_p * (len(command) + 1))(*(word.encode() for word in command), None)
    environment = (ctypes.c_char_p * 1)(None)
    address = ctypes.addressof(name)
    code = seccomp.filter_code(os.uname().machine, os.getpid(), execve_address=address)
    seccomp.install(code)
    os.write(_PROOF, RESTRICTED)
    linux.libc_call("execve", name, words, environment)
