"""What an attack is, and when it counts as contained."""

from dataclasses import dataclass, field
from string import Template

from yxanul.evaluate.sandbox.outcome import Limits, ProgramOutcome

MARK = "ESCAPED"
"""The last line of an attack that worked but cannot reach the end of its program."""
SECRET = "a secret of the machine"
"""What the file $outside/secret holds."""

BARE_CALLS = """
import ctypes, os, platform
libc = ctypes.CDLL(None, use_errno=True)
def checked(result):
    if result == -1:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result
def syscall(x86_64, aarch64, *arguments):
    number = x86_64 if platform.machine() == 'x86_64' else aarch64
    return checked(libc.syscall(number, *arguments))
"""
"""The beginning of a program that makes system calls through ctypes."""

# How a refusal looks from inside. Any other end, such as a NameError, is an attack that never
# took place.
REFUSALS = (
    "PermissionError",
    "FileNotFoundError",
    "ProcessLookupError",
    "OSError",
    "AssertionError",
    "RuntimeError: can't start new thread",
    "ended by SIGSYS",
    "ended by SIGSEGV",
)


@dataclass(frozen=True)
class Attack:
    """A program that passes if and only if it gets what it must not get.

    `$outside` stands for a folder outside, as a Python string, with the file `secret`; `$harness`
    for the number of the process that runs the sandbox.
    """

    name: str
    program: str
    ends_as: tuple[str, ...] = REFUSALS
    """How details may begin if it was contained; () for anything but a pass."""
    limits: Limits = field(default_factory=Limits)
    ctypes: bool = False
    """It may import ctypes, so that the kernel's restrictions are what it meets."""
    control: bool = False
    """It works at level 1, and does no harm there: so the attack itself can be tested."""
    needs_root: bool = False
    """Without containment only root succeeds."""
    in_self_test: bool = True
    """False for the slow kin of another attack, and for one that would be felt if it worked."""
    alone: bool = False
    """It ends its process, contained or not, so it cannot share one with others."""

    def written_out(self, outside: str, harness: int) -> str:
        """Return the program with its two names filled in."""
        return Template(self.program).substitute(outside=repr(outside), harness=harness)

    def worked(self, outcome: ProgramOutcome) -> bool:
        """Tell whether the program got what it wanted."""
        return outcome.result == "passed" or outcome.detail == MARK

    def is_contained(self, outcome: ProgramOutcome) -> bool:
        """Tell whether the program was refused, or ended by its limit, in the expected way."""
        if self.worked(outcome):
            return False
        return not self.ends_as or outcome.detail.startswith(self.ends_as)
