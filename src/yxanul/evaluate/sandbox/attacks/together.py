"""Many attacks in one process, so that the self-test takes seconds.

Most attacks end in an exception when they are contained, and the next one can follow. The program
that tries them all passes if and only if each was refused; if it does not, each is tried alone.
"""

from collections.abc import Sequence

from yxanul.evaluate.sandbox.attacks.attack import Attack

_TRY_ALL = """
for name, text in {attacks!r}:
    try:
        exec(text, {{}})
    except (OSError, AssertionError):
        continue
    except RuntimeError as error:
        if 'new thread' in str(error):
            continue
        raise
    raise SystemExit(name)
"""


def tried_together(attacks: Sequence[Attack], outside: str, *, harness: int) -> str:
    """Return one program that passes if and only if every attack is refused."""
    written = [(attack.name, attack.written_out(outside, harness)) for attack in attacks]
    return _TRY_ALL.format(attacks=written)
