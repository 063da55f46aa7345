"""Listens to a process until it has ended or must be ended; afterwards nothing of it is left."""

import contextlib
import os
import selectors
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass

from yxanul.evaluate.sandbox.jail.enter import RESTRICTED
from yxanul.evaluate.sandbox.jail.namespaces import MOST_FILES
from yxanul.evaluate.sandbox.outcome import Limits

SETTING_UP_S = 30.0
"""Until the sandbox is set up; a tenth of a second where the machine is not busy."""
_LOOK_EVERY_S = 0.02
_CHUNK_BYTES = 1 << 16
_MOST_PROOF_BYTES = 1024
_MOST_LEFT_IN_PIPES = 1 << 21


@dataclass
class Heard:
    """What came out of a process until it ended."""

    output: bytes = b""
    """The end of what it wrote to stderr."""
    proof: bytes = b""
    """The beginning of what it wrote into the proof pipe."""
    status: int | None = None
    """Exit status; a negative number is a signal."""
    cpu_s: float = 0.0
    """User and system time, its children's included."""
    out_of_time: bool = False
    """It was ended since it had reached its wall time, or was not set up within SETTING_UP_S."""
    folder_full: bool = False
    """It was ended since its folder held more than the limit."""


def listen(
    process: subprocess.Popen[bytes],
    message: bytes,
    *,
    proof: int,
    limits: Limits,
    folder: str | None,
) -> Heard:
    """Send the message and hear the process out, for limits.wall_s seconds once it is restricted.

    The setting up has SETTING_UP_S of its own: a busy machine is not the program's fault. process
    is the leader of its own session. proof is the end of a pipe to read from. A folder that is
    given is watched, for nothing else limits its size. All descriptors are closed at the end.
    """
    heard = Heard()
    deadline, is_set_up = time.monotonic() + SETTING_UP_S, False
    try:
        _send(process, message)
        with _selector(process, proof) as selector:
            while heard.status is None:
                _hear(selector, heard, limits=limits, timeout_s=_LOOK_EVERY_S)
                if heard.proof.startswith(RESTRICTED) and not is_set_up:
                    deadline, is_set_up = time.monotonic() + limits.wall_s, True
                heard.out_of_time = time.monotonic() > deadline
                heard.folder_full = folder is not None and _is_full(folder, limits)
                if heard.out_of_time or heard.folder_full:
                    _kill(process)
                _reap(process, heard)
            _kill(process)  # at L1 it may have left children behind that hold the pipes open
            for _ in range(_MOST_LEFT_IN_PIPES // _CHUNK_BYTES):
                _hear(selector, heard, limits=limits, timeout_s=0)
    finally:
        if heard.status is None:
            _kill(process)
            _reap(process, heard, options=0)
        _close(process, proof)
    return heard


def _send(process: subprocess.Popen[bytes], message: bytes) -> None:
    assert process.stdin is not None
    with contextlib.suppress(BrokenPipeError):  # it ended early: its status and words say why
        process.stdin.write(message)
        process.stdin.close()


@contextlib.contextmanager
def _selector(process: subprocess.Popen[bytes], proof: int) -> Iterator[selectors.BaseSelector]:
    """Select among both pipes and, on Linux, the end of the process."""
    assert process.stderr is not None
    end = os.pidfd_open(process.pid) if hasattr(os, "pidfd_open") else None
    with selectors.DefaultSelector() as selector:
        selector.register(process.stderr.fileno(), selectors.EVENT_READ, "output")
        selector.register(proof, selectors.EVENT_READ, "proof")
        if end is not None:
            selector.register(end, selectors.EVENT_READ, "end")
        try:
            yield selector
        finally:
            if end is not None:
                os.close(end)


def _hear(
    selector: selectors.BaseSelector, heard: Heard, *, limits: Limits, timeout_s: float
) -> None:
    """Read once from every pipe that has something; what nobody keeps is dropped."""
    for key, _ in selector.select(timeout_s):
        if key.data == "end":
            continue
        piece = os.read(key.fd, _CHUNK_BYTES)
        if not piece:
            selector.unregister(key.fd)
        elif key.data == "proof":
            heard.proof = (heard.proof + piece)[:_MOST_PROOF_BYTES]
        else:
            heard.output = (heard.output + piece)[-limits.output_bytes :]


def _is_full(folder: str, limits: Limits) -> bool:
    """Tell whether a flat folder holds more bytes or files than allowed."""
    files = size = 0
    with os.scandir(folder) as entries:
        for entry in entries:
            files += 1
            size += _size(entry)
            if size > limits.folder_bytes or files > MOST_FILES:
                return True
    return False


def _size(entry: os.DirEntry[str]) -> int:
    try:
        return entry.stat(follow_symlinks=False).st_size
    except FileNotFoundError:  # deleted since
        return 0


def _kill(process: subprocess.Popen[bytes]) -> None:
    """Kill the process's whole session; what has ended already is no error."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)


def _reap(process: subprocess.Popen[bytes], heard: Heard, *, options: int | None = None) -> None:
    """Note status and CPU time if the process has ended; options 0 waits for it."""
    pid, status, usage = os.wait4(process.pid, os.WNOHANG if options is None else options)
    if pid:
        heard.status = process.returncode = os.waitstatus_to_exitcode(status)
        heard.cpu_s = usage.ru_utime + usage.ru_stime


def _close(process: subprocess.Popen[bytes], proof: int) -> None:
    os.close(proof)
    for pipe in (process.stdin, process.stderr):
        assert pipe is not None
        with contextlib.suppress(BrokenPipeError):
            pipe.close()
