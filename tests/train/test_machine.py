"""What a run tells of the machine and the program that it is on."""

import subprocess
from pathlib import Path

from yxanul.train.processes.machine import commit_of


def test_a_commit_is_told_of_a_checkout_and_of_no_repository_around_the_program(tmp_path: Path):
    """A user's own commits are no other program, which --strict would refuse."""
    git = ["git", "-C", str(tmp_path), "-c", "user.name=t", "-c", "user.email=t@t"]

    def call(*words: str) -> str:
        done = subprocess.run([*git, *words], check=True, capture_output=True, text=True)
        return done.stdout.strip()

    program = tmp_path / ".venv" / "machine.py"
    program.parent.mkdir()
    program.touch()
    call("init", "-q")
    assert commit_of(program) is None
    call("commit", "-q", "--allow-empty", "-m", "a user's own")
    assert commit_of(program) is None
    call("add", "-f", str(program))
    call("commit", "-q", "-m", "the program")
    assert commit_of(program) == call("rev-parse", "HEAD")
