"""One program in one restricted process: start it, and judge how it ended.

The harness's side of `jail/enter.py`. A program passes if the secret came back behind the byte that
says it was restricted, and nothing else did, and the exit status is 0.
"""

import os
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import yxanul
from yxanul.errors import InfrastructureError
from yxanul.evaluate.sandbox.jail.enter import RESTRICTED, SECRET_BYTES, SWITCHES
from yxanul.evaluate.sandbox.listening import SETTING_UP_S, Heard, listen
from yxanul.evaluate.sandbox.outcome import Limits, ProgramOutcome, Result

LevelName = Literal["L3", "L2", "L1"]

_ENTER = (
    "import sys; sys.path.insert(0, sys.argv[1]); "
    "from yxanul.evaluate.sandbox.jail.enter import main; main(sys.argv[2:])"
)
_SOURCE = str(Path(yxanul.__file__).parents[1])
_DETAIL_CHARACTERS = 200
_ENOUGH = 0.5  # the kernel's clock of limits is coarser than its accounting: 0.85 was seen
_SIGNALLED = 128  # a shell's convention: exit status 128 + signal, from the jail's outer process


@dataclass(frozen=True)
class Sandbox:
    """How programs are run: the level, the limits, and whether they may import ctypes."""

    level: LevelName
    limits: Limits = field(default_factory=Limits)
    ctypes: bool = False
    """True only for the attacks, which are to meet the kernel's restrictions, not Python's."""


def run_program(program: str, sandbox: Sandbox) -> ProgramOutcome:
    """Run a program in a fresh interpreter and a fresh folder, and leave nothing of it behind.

    Raises:
        InfrastructureError: the sandbox itself could not be set up; says nothing on the program.
    """
    secret = secrets.token_bytes(SECRET_BYTES)
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="yxanul-sandbox-") as folder:
        process, proof = _start(sandbox, folder)
        message = secret + program.encode(errors="surrogatepass")
        watched = None if sandbox.level == "L3" else folder
        heard = listen(process, message, proof=proof, limits=sandbox.limits, folder=watched)
    seconds = time.monotonic() - started
    if not heard.proof.startswith(RESTRICTED):
        raise InfrastructureError(
            f"the sandbox ({sandbox.level}) could not be set up for a program: "
            f"{_why_not_set_up(heard)}"
        )
    return ProgramOutcome(*_judge(heard, RESTRICTED + secret, limits=sandbox.limits), seconds)


def _why_not_set_up(heard: Heard) -> str:
    if heard.out_of_time:
        return f"not ready after {SETTING_UP_S:g} s"
    return _last_line(heard.output) or _status(heard.status)


def _judge(heard: Heard, proof: bytes, *, limits: Limits) -> tuple[Result, str]:
    if heard.out_of_time:
        return "timed_out", f"not at its end after {limits.wall_s:g} s"
    if heard.folder_full:
        return "failed", "filled its folder"
    killed = heard.status in (-signal.SIGKILL, _SIGNALLED + signal.SIGKILL)
    if killed and heard.cpu_s > _ENOUGH * limits.cpu_s:
        return "timed_out", f"used {limits.cpu_s} s of CPU time"
    if heard.status:
        return "failed", _last_line(heard.output) or _status(heard.status)
    if heard.proof != proof:
        return "failed", "left before its last statement, with status 0"
    return "passed", ""


def _status(status: int | None) -> str:
    """Name an exit status; a signal has a negative one, or 128 + signal."""
    number = -status if status is not None and status < 0 else (status or 0) - _SIGNALLED
    if number in set(signal.Signals):
        return f"ended by {signal.Signals(number).name}"
    return f"left with status {status}"


def _last_line(output: bytes) -> str:
    """Return the last line of a text that is not to be trusted, printable and short."""
    lines = output.decode(errors="replace").split("\n")
    line = next((line for line in reversed(lines) if line.strip()), "").strip()
    return "".join(c if c.isprintable() else "?" for c in line[:_DETAIL_CHARACTERS])


def _start(sandbox: Sandbox, folder: str) -> tuple[subprocess.Popen[bytes], int]:
    """Start the jail in its own session; return it and the end of the proof pipe to read from."""
    proof, proof_in_child = os.pipe()
    try:
        process = subprocess.Popen(
            _command(sandbox, proof_in_child),
            cwd=folder,
            env={},
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            pass_fds=[proof_in_child],
            start_new_session=True,
        )
    except OSError as error:
        os.close(proof)
        raise InfrastructureError(f"no process could be started for a program: {error}") from error
    finally:
        os.close(proof_in_child)
    return process, proof


def _command(sandbox: Sandbox, proof: int) -> list[str]:
    limits = sandbox.limits
    numbers = [limits.memory_bytes, limits.cpu_s, limits.file_bytes, limits.open_files]
    numbers += [limits.folder_bytes]
    word = "with-ctypes" if sandbox.ctypes else "without-ctypes"
    # The interpreter itself, not a venv's link to it: packages are not to be found anyway.
    python = os.path.realpath(getattr(sys, "_base_executable", None) or sys.executable)
    start = [python, *SWITCHES, "-c", _ENTER, _SOURCE]
    return [*start, sandbox.level, str(os.getpid()), str(proof), word, *map(str, numbers)]
