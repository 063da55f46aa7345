"""All processes of a command: asked to stop together, and waited for.

A script, and DeepSpeed's launcher, hand on no signal and end by one before what they have started:
asked alone, they would leave a run that trains on, holds the cards, and is nobody's any more.
"""

import os
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from yxanul.runfolder.layout import RunFolder
from yxanul.runfolder.supervised import VARIABLE, read_note

# A run that was asked to stop may save, and copy that to its mirror; its report and the mirror's
# last rows follow when it has left its folder.
_LONGEST_SAVE_S, _LONGEST_LAST_WORDS_S = 900.0, 90.0
LOOK_S = 0.1
"""Seconds between two looks at what is waited for."""
_UNTOLD_S = 1.0
# The note lies among temporary files, which are cleared of what nobody has used for days.
_READ_S = 60.0


class Group:
    """A command that was started in a session of its own, and what it has started in turn."""

    def __init__(
        self, command: "subprocess.Popen[bytes]", note: Path, *, begun: str | None = None
    ) -> None:
        """`note` is where the program says who it is and where its run folder lies.

        `begun` is the run folder that an earlier start has come to.
        """
        self._command = command
        self._note = note
        self._told: dict[str, Any] = {} if begun is None else {"run_folder": begun}

    def told(self) -> dict[str, Any]:
        """Return what the program has told; what was read once stays, where the note is gone."""
        news = read_note(self._note)
        self._told = news if "run_folder" in news else self._told | news
        return self._told

    def await_command(self) -> int:
        """Wait for the end of the command itself; return what it left with."""
        while True:
            with suppress(subprocess.TimeoutExpired):
                return self._command.wait(_READ_S)
            self.told()

    def send_signal(self, number: int) -> None:
        """Send a signal to the program, if that is the command itself, else to all processes.

        What a program has started beside itself is its own matter. One in a session of its own is
        left to the command, which launched it, while that lives.
        """
        if self._command.returncode is None and self._program() == self._command.pid:
            self._command.send_signal(number)
            return
        with suppress(ProcessLookupError):  # all have ended
            os.killpg(self._command.pid, number)
        if self._command.returncode is not None:
            for pid in self._apart():
                with suppress(ProcessLookupError):
                    os.kill(pid, number)

    def await_rest(self, *, is_asked: Callable[[], bool], say: Callable[[str], None]) -> None:
        """Wait, when the command has ended, for a run that it leaves at work.

        One that was asked to stop is given time to save; what has not ended then is told and left.
        What is left beside a run that has ended is not waited for, unless a stop was asked for.
        """
        ended_at = asked_at = held_at = time.monotonic()
        has_told = False
        while left := _alive(self._command.pid) + self._apart():
            now, is_held = time.monotonic(), self._holds_run()
            held_at = now if is_held else held_at
            if not is_asked():
                asked_at = now
                if not is_held:
                    return
            told = f"what it has started (process {', '.join(map(str, left))})"
            if now - asked_at > _LONGEST_SAVE_S or now - held_at > _LONGEST_LAST_WORDS_S:
                say(f"supervise: {told} has not ended within {now - asked_at:.0f} s, and is left")
                return
            if not has_told and now - ended_at > _UNTOLD_S:
                say(f"supervise: the command has ended before {told}, which is waited for")
                has_told = True
            time.sleep(LOOK_S)

    def _program(self) -> int | None:
        pid = self.told().get("pid")
        return pid if isinstance(pid, int) else None

    def _apart(self) -> list[int]:
        """Return the id of a living program outside the command's group, as torchrun's ranks are.

        It is known by the note in its environment: another process may have its number by now.
        """
        pid = self._program()
        if pid is None:
            return []
        try:
            environment = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
            is_apart = os.getpgid(pid) != self._command.pid
        except OSError:  # it has ended, or the system does not tell
            return []
        is_ours = os.fsencode(f"{VARIABLE}={self._note}") in environment
        return [pid] if is_ours and is_apart else []

    def _holds_run(self) -> bool:
        """Tell whether a process works on the run that the program has named."""
        place = self.told().get("run_folder")
        try:
            return place is not None and RunFolder(Path(place)).is_held_elsewhere()
        except (OSError, ValueError):  # the process told of a folder that is none
            return False


def _alive(group: int) -> list[int]:
    """Return the ids of a group's processes; one that has ended and is not yet waited for is none.

    Where the system does not list them, the group's own id stands for all.
    """
    try:
        os.killpg(group, 0)
    except (ProcessLookupError, PermissionError):  # macOS refuses one that has ended
        return []
    if not Path("/proc/self/stat").exists():
        return [group]
    stats = Path("/proc").glob("[0-9]*/stat")
    return [int(stat.parent.name) for stat in stats if _is_of(stat, group)]


def _is_of(stat: Path, group: int) -> bool:
    """Tell whether /proc/ID/stat is of a living process of a group."""
    try:
        words = stat.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:  # it has just ended
        return False
    state, _parent, its_group = words[:3]
    return int(its_group) == group and state not in "ZX"
