"""Starts a run with planted faults, and holds what comes of it against an unbroken one."""

from collections import Counter
from pathlib import Path

import pytest

from tests.train.world import Finished, World, deterministic_rows, fingerprint
from yxanul import failpoints
from yxanul.failpoints import VARIABLE

KILLED = -9
ENDING = ("kill", "wait")
"""Actions of failpoints by which a process may end without coming back to who called it."""


def run_with(world: World, faults: str, *more: str, out: str = "run", code: int) -> Finished:
    """Run the program with these failpoints and check its code.

    It has a process of its own where one of them ends it, as the watchdog does to one that waits;
    elsewhere that would only take longer.
    """
    assert "=pause" not in faults, "nobody would let it go on: World.start_to has its process"
    if any(f"={action}" in faults for action in ENDING):
        process = world.start("run", out, *more, **{VARIABLE: faults})
        stdout, stderr = process.communicate(timeout=120)
        assert process.returncode == code, f"left with {process.returncode}:\n{stderr}"
        return Finished(stdout, stderr)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(VARIABLE, faults)
        patch.setattr(failpoints, "_visits", Counter())
        return world.finish("run", out, *more, code=code)


def assert_ends_like(world: World, unbroken: World, *, out: str = "run") -> None:
    """Weights, moments, clock, rows, verdicts and samples are those of the unbroken run."""
    whole, other = unbroken.checkpoints("run")[-1], world.checkpoints(out)[-1]
    assert other.name == whole.name
    assert fingerprint(other) == fingerprint(whole)
    found, wanted = world.root / out, unbroken.root / "run"
    assert deterministic_rows(found) == deterministic_rows(wanted)
    for name in ("gates.jsonl", "samples.jsonl"):
        assert (found / name).read_text() == (wanted / name).read_text()


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())
