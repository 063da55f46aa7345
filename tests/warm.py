"""Processes of the program that begin with its imports done: forks of one that has nothing else.

What a test starts so is a process like any other: its own memory, signals, streams and end, by
SIGKILL too. Only the seconds that every start spends on imports and the vocabulary, and two in
which it times products, are spent once for a whole pytest process. No thread has been started where
it forks, and no number drawn.
"""

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

# What `python -m yxanul` has as its first argument.
_DOOR = Path(__file__).parents[1] / "src" / "yxanul" / "__main__.py"
_LARGEST_REQUEST = 1 << 20
_READ = 1 << 16


def start_yxanul(words: Sequence[str], *, env: dict[str, str]) -> "subprocess.Popen[str] | Fork":
    """Start the program; elsewhere than on Linux, where forks of such a process may crash, anew."""
    if sys.platform == "linux":
        return Fork(words, env=env)
    return subprocess.Popen(
        [sys.executable, "-m", "yxanul", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=env,
    )


class Fork:
    """A process of the program, with the part of `subprocess.Popen` that tests use."""

    def __init__(self, words: Sequence[str], *, env: dict[str, str]) -> None:
        """Start `yxanul` with these words; both streams are pipes of text."""
        out, err = os.pipe(), os.pipe()
        self.args = list(words)
        self.returncode: int | None = None
        self.pid = _nursery().fork(words, env=env, streams=(out[1], err[1]))
        os.close(out[1])
        os.close(err[1])
        self.stdout, self.stderr = os.fdopen(out[0]), os.fdopen(err[0])

    def poll(self) -> int | None:
        """Return the exit code, or None while it runs."""
        return self._ended(0.0)

    def wait(self, timeout: float | None = None) -> int:
        """Return the exit code when it has ended, minus the signal that ended it."""
        if self._ended(timeout) is None:
            raise subprocess.TimeoutExpired(self.args, timeout or 0.0)
        assert self.returncode is not None
        return self.returncode

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """Return what is left of both streams, when it has ended."""
        deadline = None if timeout is None else time.monotonic() + timeout
        parts: dict[int, bytes] = {self.stdout.fileno(): b"", self.stderr.fileno(): b""}
        open_ones = list(parts)
        while open_ones:
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            ready, _, _ = select.select(open_ones, [], [], left)
            if not ready:
                raise subprocess.TimeoutExpired(self.args, timeout or 0.0)
            for stream in ready:
                new = os.read(stream, _READ)
                parts[stream] += new
                if not new:
                    open_ones.remove(stream)
        self.wait(timeout)
        out, err = (part.decode() for part in parts.values())
        self.stdout.close()
        self.stderr.close()
        return out, err

    def send_signal(self, number: int) -> None:
        """Send a signal, unless it has ended."""
        if self.poll() is None:
            # Another process waits for it: it may have ended since.
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def kill(self) -> None:
        """End it by SIGKILL."""
        self.send_signal(signal.SIGKILL)

    def _ended(self, timeout: float | None) -> int | None:
        if self.returncode is None:
            self.returncode = _nursery().ending(self.pid, timeout=timeout)
        return self.returncode


class _Nursery:
    """The process that forks, seen from a test."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.warm", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                env={**os.environ, "PYTHONPATH": os.pathsep.join(["src", "."])},
            )
        self._socket = ours
        self._lock = threading.Lock()
        self._endings: dict[int, int] = {}
        self._begun: list[int] = []

    def fork(self, words: Sequence[str], *, env: dict[str, str], streams: tuple[int, int]) -> int:
        request = json.dumps({"words": list(words), "env": env, "cwd": str(Path.cwd())}).encode()
        with self._lock:
            socket.send_fds(self._socket, [request], list(streams))
            while not self._begun:
                self._hear(None)
            return self._begun.pop()

    def ending(self, pid: int, *, timeout: float | None) -> int | None:
        """Return the exit code of a fork; None if it has not ended after `timeout` seconds."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            with self._lock:
                # Another thread may have heard of it.
                self._hear(0.0)
                if pid in self._endings:
                    return self._endings[pid]
            if deadline is not None and time.monotonic() >= deadline:
                return None
            time.sleep(0.01)

    def _hear(self, timeout: float | None) -> None:
        while select.select([self._socket], [], [], timeout)[0]:
            message = self._socket.recv(_LARGEST_REQUEST)
            if not message:
                raise RuntimeError("the process that forks has ended")
            told = json.loads(message)
            if "code" in told:
                self._endings[told["pid"]] = told["code"]
            else:
                self._begun.append(told["pid"])
                return
            timeout = 0.0


@cache
def _nursery() -> _Nursery:
    return _Nursery()


def _serve(channel: socket.socket) -> list[str]:
    """Fork at every request; return its words in the child. Ends with the test's process."""
    running: dict[int, int] = {}
    while True:
        ready, _, _ = select.select([channel, *running], [], [])
        for watched in set(ready) & set(running):
            _, status = os.waitpid(running[watched], 0)
            ended = {"pid": running.pop(watched), "code": os.waitstatus_to_exitcode(status)}
            os.close(watched)
            with contextlib.suppress(BrokenPipeError):
                channel.send(json.dumps(ended).encode())
        if channel not in ready:
            continue
        request, streams, _, _ = socket.recv_fds(channel, _LARGEST_REQUEST, 2)
        if not request:
            os._exit(0)
        pid = os.fork()
        if not pid:
            channel.close()
            for watched in running:
                os.close(watched)
            return _become(json.loads(request), streams)
        for stream in streams:
            os.close(stream)
        running[os.pidfd_open(pid)] = pid
        channel.send(json.dumps({"pid": pid}).encode())


def _become(request: dict[str, Any], streams: Sequence[int]) -> list[str]:
    """Take on the streams, folder and environment of a request; return its words."""
    for stream, number in zip(streams, (1, 2), strict=True):
        os.dup2(stream, number)
        os.close(stream)
    # Those from before the fork remember what they were opened on, which could be sought.
    sys.stdout = os.fdopen(1, "w", closefd=False)
    sys.stderr = os.fdopen(2, "w", buffering=1, errors="backslashreplace", closefd=False)
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["env"])
    words: list[str] = request["words"]
    sys.argv = [str(_DOOR), *words]
    return words


if __name__ == "__main__":
    # What a start, a tracker and a report spend their time on.
    import plotly.offline  # noqa: F401
    import tensorboard.compat.proto.event_pb2
    import tensorboard.summary.writer.record_writer  # noqa: F401

    import yxanul.train.run  # noqa: F401
    from tests.products import time_products_now
    from yxanul.cli.main import main
    from yxanul.data.tokenizer import load_tokenizer

    load_tokenizer()
    time_products_now()
    main(_serve(socket.socket(fileno=int(sys.argv[1]))))
