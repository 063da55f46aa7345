"""What one program may use, and how it ended."""

from dataclasses import dataclass
from typing import Literal

from yxanul.errors import UsageError

Result = Literal["passed", "failed", "timed_out"]


@dataclass(frozen=True)
class Limits:
    """What one program may use."""

    memory_bytes: int = 512 << 20
    """Address space of its process."""
    cpu_s: int = 4
    """Seconds of CPU time, whole."""
    wall_s: float = 6.0
    """Seconds from when the sandbox is set up, the start of Python included."""
    file_bytes: int = 1 << 20
    """Length of a file that it writes."""
    folder_bytes: int = 16 << 20
    """All files of its folder together."""
    open_files: int = 64
    """Descriptors; at least 8."""
    output_bytes: int = 64 << 10
    """Text on stderr that is kept, from its end; what comes before is read and dropped."""

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value <= 0:
                raise UsageError(f"the sandbox's limit {name} is {value}: it must be above 0")
        if not isinstance(self.cpu_s, int):
            raise UsageError(f"the sandbox's limit cpu_s is {self.cpu_s}: whole seconds only")


@dataclass(frozen=True)
class ProgramOutcome:
    """How one program ended."""

    result: Result
    """passed: it reached its last statement and ended with status 0."""
    detail: str
    """One printable line for a reader, the program's own words among them; empty if passed."""
    seconds: float
    """Wall time, the setting up of the sandbox included."""
