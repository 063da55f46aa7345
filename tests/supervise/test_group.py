"""The processes of one start, whose note may be cleared away while it lives."""

import json
import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from yxanul.runfolder.layout import RunFolder
from yxanul.runfolder.supervised import VARIABLE
from yxanul.supervise import group as room
from yxanul.supervise.group import Group

# A run that is at work until it may go.
WORKS = """
import pathlib, sys, time
from yxanul.runfolder.layout import RunFolder
root = pathlib.Path(sys.argv[1])
with RunFolder(root).locked():
    (root / "ready").touch()
    while not (root / "go").exists():
        time.sleep(0.02)
"""
# As torchrun starts its ranks.
LAUNCHES = """
import subprocess, sys
subprocess.Popen([sys.executable, "-c", *sys.argv[1:]], start_new_session=True).wait()
"""
TELLS = """
import pathlib, sys
from yxanul.runfolder.supervised import tell_run_folder
tell_run_folder(pathlib.Path(sys.argv[1]))
"""


@pytest.mark.parametrize("is_told_by", ["this start", "an earlier one"])
def test_a_run_whose_note_is_gone_is_waited_for_when_its_script_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_told_by: str
) -> None:
    """Else the next start is refused beside a run that trains on and is nobody's any more."""
    monkeypatch.setattr(room, "_READ_S", 0.02)
    monkeypatch.setattr(room, "_UNTOLD_S", 0.0)
    run, note = RunFolder(tmp_path / "run"), tmp_path / "note"
    run.create()
    begun = str(run.root) if is_told_by == "an earlier one" else None
    if begun is None:
        note.write_text(json.dumps({"run_folder": str(run.root)}) + "\n")
    line = shlex.join([sys.executable, "-c", WORKS, str(run.root)])
    script = subprocess.Popen(["bash", "-c", f"{line} & wait"], start_new_session=True)
    group, said = Group(script, note, begun=begun), list[str]()

    def clear_and_kill() -> None:
        while not (group._told and (run.root / "ready").exists()):
            time.sleep(0.02)
        note.unlink(missing_ok=True)
        script.kill()

    def say(told: str) -> None:
        said.append(told)
        (run.root / "go").touch()

    killer = threading.Thread(target=clear_and_kill)
    killer.start()
    try:
        assert group.await_command() == -9
        group.await_rest(is_asked=lambda: False, say=say)
    finally:
        (run.root / "go").touch()
        killer.join()
    assert ["which is waited for" in told for told in said] == [True]
    assert not run.is_held_elsewhere()


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="it tells of no processes")
def test_a_rank_is_waited_for_and_stopped_when_its_launcher_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It lies in a session of its own, and would train on beside the next start."""
    monkeypatch.setattr(room, "_UNTOLD_S", 0.0)
    run, note = RunFolder(tmp_path / "run"), tmp_path / "note"
    run.create()
    launcher = subprocess.Popen(
        [sys.executable, "-c", LAUNCHES, TELLS + WORKS, str(run.root)],
        env={**os.environ, "PYTHONPATH": "src", VARIABLE: str(note)},
        start_new_session=True,
    )
    group, said = Group(launcher, note), list[str]()

    def stop(told: str) -> None:
        said.append(told)
        group.send_signal(signal.SIGTERM)

    try:
        while not (run.root / "ready").exists():
            time.sleep(0.02)
        launcher.kill()
        assert group.await_command() == -9
        group.await_rest(is_asked=lambda: bool(said), say=stop)
        assert ["which is waited for" in told for told in said] == [True]
        assert not run.is_held_elsewhere()
    finally:
        (run.root / "go").touch()
