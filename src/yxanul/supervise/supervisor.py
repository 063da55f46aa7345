"""Starts a command, waits for its end, and starts it again where that may help.

The command runs in a session of its own, so that Ctrl-C reaches it once, through here: whoever asks
the supervisor to stop asks the run, which saves, and nothing is started again.
"""

import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from yxanul.errors import StoppedOnRequest, UsageError
from yxanul.runfolder.supervised import BEGUN_VARIABLE, NAMED_VARIABLE, VARIABLE
from yxanul.supervise.ending import Ending, read_ending
from yxanul.supervise.group import LOOK_S, Group
from yxanul.supervise.policy import Policy

Say = Callable[[str], None]
_LAUNCHERS = {
    "torchrun",
    "torch.distributed.run",
    "torch.distributed.launch",
    "deepspeed",
    "deepspeed.launcher.runner",
}
# What a person has supervised; other verbs need no launcher.
_VERBS = {"run", "train", "evaluate", "prepare"}


@dataclass(frozen=True)
class Supervised:
    """How a command ended for good."""

    code: int
    """Exit code of its last start; 128 + the signal of who asked to stop what did not end well."""
    reason: str
    """Why that one ended."""
    starts: int
    why: str
    """Why it was not started again."""


def supervise(
    command: Sequence[str], *, backoff_s: float, say: Say, stdout: int | None = None
) -> Supervised:
    """Run the command until it ends for good; return how.

    What it prints goes to the file descriptor `stdout`; None: this process' own. A command that
    cannot be started is a `UsageError`.
    """
    policy, stop, starts = Policy(backoff_s=backoff_s), _Stop(), 0
    come_to: dict[str, str] = {}
    with tempfile.TemporaryDirectory(prefix="yxanul-") as folder, stop.receiving():
        while True:
            note = Path(folder) / "run"
            ending = _start_once(command, note, come_to=come_to, stop=stop, stdout=stdout, say=say)
            come_to |= _come_to(ending)
            starts += 1
            if stop.asked:
                say(f"supervise: asked to stop; the run ended with {ending.code} ({ending.reason})")
                return Supervised(stop.code(ending), ending.reason, starts, "asked to stop")
            decision = policy.after(ending)
            told = f"supervise: it ended with {ending.code} ({ending.reason})"
            if decision.wait_s is None:
                if ending.code != 0:
                    say(f"{told}; not started again: {decision.why}")
                return Supervised(ending.code, ending.reason, starts, decision.why)
            say(f"{told}; {decision.why}, started again in {decision.wait_s:.0f} s")
            if stop.wait(decision.wait_s):
                say("supervise: asked to stop; nothing was started again")
                return Supervised(stop.code(ending), ending.reason, starts, "asked to stop")


def _start_once(
    command: Sequence[str],
    note: Path,
    *,
    come_to: Mapping[str, str],
    stop: "_Stop",
    stdout: int | None,
    say: Say,
) -> Ending:
    """Start the command, and wait for its end; `come_to` are variables of what it did before."""
    note.unlink(missing_ok=True)
    began, started_at = time.monotonic(), time.time()
    try:
        process = subprocess.Popen(
            command,
            stdout=stdout,
            env={**os.environ, **come_to, VARIABLE: str(note)},
            start_new_session=True,
        )
    except OSError as error:
        raise UsageError(f"{command[0]} cannot be started: {error.strerror}") from error
    group = Group(process, note, begun=come_to.get(BEGUN_VARIABLE))
    with stop.passing_on_to(group):
        returncode = group.await_command()
        group.await_rest(is_asked=lambda: stop.asked, say=say)
    return read_ending(
        returncode,
        group.told(),
        started_at=started_at,
        lived_s=time.monotonic() - began,
        is_launcher=_is_launcher(command),
    )


def _come_to(ending: Ending) -> dict[str, str]:
    """Return what the next starts are told of this one, by the variables that tell it."""
    found = {BEGUN_VARIABLE: ending.run_folder, NAMED_VARIABLE: ending.named}
    return {variable: str(told) for variable, told in found.items() if told is not None}


def _is_launcher(command: Sequence[str]) -> bool:
    """Tell whether a word before the program is torchrun or one of its kind; later ones are its.

    The program is a file of Python, or its name before a verb: an environment may have that name
    (`conda run -n yxanul torchrun -m yxanul run`), and a folder.
    """
    names = [Path(word).name for word in command]
    programs = [
        at
        for at, (name, next_word) in enumerate(zip(names, [*command[1:], ""], strict=True))
        if name.endswith(".py") or (name == "yxanul" and next_word in _VERBS)
    ]
    before = names[: programs[0]] if programs else names
    return not _LAUNCHERS.isdisjoint(before)


class _Stop:
    """A wish to stop, and the processes that it concerns."""

    def __init__(self) -> None:
        self.asked = False
        self._number = signal.SIGTERM
        self._group: Group | None = None

    def code(self, ending: Ending) -> int:
        """Return the code to leave with after a stop that was asked for.

        That of a run that is done or saved, else the signal's: whoever shuts machines down must see
        that a person is there, however the run took it.
        """
        ends_well = ending.code in (0, StoppedOnRequest.exit_code)
        return ending.code if ends_well else 128 + self._number

    def wait(self, seconds: float) -> bool:
        """Wait for so long, or until a stop is asked for; tell whether it was."""
        end = time.monotonic() + seconds
        # Not by an Event: what a signal interrupts may hold the lock that setting it takes.
        while not self.asked and (left := end - time.monotonic()) > 0:
            time.sleep(min(left, LOOK_S))
        return self.asked

    @contextmanager
    def receiving(self) -> Iterator[None]:
        """Take SIGINT and SIGTERM inside the block."""
        numbers = (signal.SIGINT, signal.SIGTERM)
        before = {number: signal.signal(number, self._receive) for number in numbers}
        try:
            yield
        finally:
            for number, receiver in before.items():
                signal.signal(number, receiver)

    @contextmanager
    def passing_on_to(self, group: Group) -> Iterator[None]:
        """Send every signal that is received inside the block on to the command."""
        self._group = group
        if self.asked:  # between two starts
            group.send_signal(signal.SIGTERM)
        try:
            yield
        finally:
            self._group = None

    def _receive(self, number: int, _frame: FrameType | None) -> None:
        self._number = signal.Signals(number)
        self.asked = True
        if self._group is not None:
            self._group.send_signal(number)
