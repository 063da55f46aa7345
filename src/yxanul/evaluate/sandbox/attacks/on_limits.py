"""Programs that take all they can get: memory, time, disk, output, depth. Limits end them."""

from yxanul.evaluate.sandbox.attacks.attack import Attack
from yxanul.evaluate.sandbox.outcome import Limits

# A second of each is enough to see that the limit ends it; on a busy machine a second of CPU takes
# many of the clock.
_BRIEF_CPU, _BRIEF_WALL = Limits(cpu_s=1, wall_s=60.0), Limits(wall_s=1.0)
_CPU, _WALL = ("used 1 s of CPU time",), ("not at its end after 1 s",)

_ENDED_BY_CPU = {
    "loop for ever": "while True: pass",
    "compute one huge number": "9 ** 9 ** 9",
    "ignore every signal and loop": """
import signal
for number in range(1, 65):
    try:
        signal.signal(number, signal.SIG_IGN)
    except (OSError, ValueError):
        pass
while True: pass
""",
    "close everything and loop": """
import os
os.closerange(0, 64)
while True: pass
""",
    "catch every error and loop": """
while True:
    try:
        while True: pass
    except BaseException:
        pass
""",
}
_ENDED_BY_WALL = {
    "write for ever": """
import os
while True: os.write(2, bytes(65536))
""",
    "write into the proof for ever": """
import os
while True: os.write(4, bytes(65536))
""",
    "sleep": "import time; time.sleep(60)",
    "wait for ever": "import signal\nwhile True: signal.pause()",
}
_OTHERS = {
    "take all memory": ("x = []\nwhile True: x.append(bytearray(1 << 24))", ("MemoryError",)),
    "take all memory at once": ("x = bytearray(1 << 40)", ("MemoryError",)),
    "take memory that is shared": (
        "import mmap\nx = [mmap.mmap(-1, 1 << 26) for _ in range(64)]",
        ("OSError", "MemoryError"),
    ),
    "write a large file": ("open('x', 'wb').write(bytes(8 << 20))", ("OSError",)),
    "fill the disk with many files": (
        """
for number in range(100000):
    with open(str(number), 'wb') as file:
        file.write(bytes(1 << 20))
""",
        ("OSError", "filled its folder"),
    ),
    "fill the disk with empty files": (
        "for number in range(10 ** 9): open(str(number), 'w').close()",
        ("OSError", "filled its folder"),
    ),
    "open too many files": ("x = [open('/dev/null') for _ in range(4096)]", ("OSError",)),
    "call itself for ever": ("def f(): f()\nf()", ("RecursionError",)),
    "overflow the stack": (
        """
import sys
sys.setrecursionlimit(10 ** 9)
class Deep:
    def __repr__(self):
        return repr(self)
repr(Deep())
""",
        ("ended by SIG", "RecursionError", "MemoryError", "Fatal Python error"),
    ),
    "crash the compiler": ("compile('(' * 10 ** 6, 'x', 'eval')", ()),
}

_ONE_OF_EACH = ("loop for ever", "write for ever")

ATTACKS = [
    *(
        Attack(name, program, ends_as=_CPU, limits=_BRIEF_CPU, in_self_test=name in _ONE_OF_EACH)
        for name, program in _ENDED_BY_CPU.items()
    ),
    *(
        Attack(name, program, ends_as=_WALL, limits=_BRIEF_WALL, in_self_test=name in _ONE_OF_EACH)
        for name, program in _ENDED_BY_WALL.items()
    ),
    *(Attack(name, program, ends_as=ends_as) for name, (program, ends_as) in _OTHERS.items()),
]
