"""Does a level hold? Harmless programs must pass, and every attack must be contained."""

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

from yxanul.errors import InfrastructureError
from yxanul.evaluate.sandbox.attacks.attack import REFUSALS, SECRET, Attack
from yxanul.evaluate.sandbox.attacks.every import ATTACKS
from yxanul.evaluate.sandbox.attacks.harmless import PROGRAMS
from yxanul.evaluate.sandbox.attacks.together import tried_together
from yxanul.evaluate.sandbox.pool import run_jobs
from yxanul.evaluate.sandbox.process import LevelName, Sandbox


def problem_at(level: LevelName) -> str:
    """Run the self-test of a level; return "" if it holds, otherwise what it met first."""
    with tempfile.TemporaryDirectory(prefix="yxanul-outside-") as outside:
        Path(outside, "secret").write_text(SECRET, encoding="utf-8")
        before = traces(outside)
        try:
            problem = _problem_with_harmless(level) or _problem_with_attacks(level, outside)
        except InfrastructureError as error:
            return str(error)
        if traces(outside) != before:
            return problem or "an attack changed a file outside its folder"
        return problem


def traces(folder: str) -> list[tuple[str, bytes, int, int, int]]:
    """Return all that an attack could have changed in a folder of files."""
    found = []
    for path in sorted(Path(folder).iterdir()):
        state = path.stat()
        found.append(
            (path.name, path.read_bytes(), state.st_mode, state.st_nlink, state.st_mtime_ns)
        )
    return found


def _problem_with_harmless(level: LevelName) -> str:
    outcomes = run_jobs([(program, Sandbox(level)) for program in PROGRAMS.values()])
    for name, outcome in zip(PROGRAMS, outcomes, strict=True):
        if outcome.result != "passed":
            return f'the harmless program "{name}" did not pass: {outcome.detail}'
    return ""


def _problem_with_attacks(level: LevelName, outside: str) -> str:
    """Try the attacks that can follow one another in two processes, then the others alone."""
    attacks = [attack for attack in ATTACKS if attack.in_self_test]
    first = [attack for attack in attacks if attack.ends_as == REFUSALS and not attack.alone]
    groups = [[a for a in first if a.ctypes], [a for a in first if not a.ctypes]]
    outcomes = run_jobs(
        [
            (tried_together(group, outside, harness=os.getpid()), Sandbox(level, ctypes=bool(kind)))
            for kind, group in zip((True, False), groups, strict=True)
        ]
    )
    if any(outcome.result != "passed" for outcome in outcomes):
        problem = _problem_alone(first, level, outside=outside)
        if problem:
            return problem
    return _problem_alone([a for a in attacks if a not in first], level, outside=outside)


def _problem_alone(attacks: Sequence[Attack], level: LevelName, *, outside: str) -> str:
    outcomes = run_jobs(
        [
            (
                attack.written_out(outside, os.getpid()),
                Sandbox(level, attack.limits, attack.ctypes),
            )
            for attack in attacks
        ]
    )
    for attack, outcome in zip(attacks, outcomes, strict=True):
        if not attack.is_contained(outcome):
            end = outcome.detail or outcome.result
            return f'the attack "{attack.name}" was not contained ({end})'
    return ""
