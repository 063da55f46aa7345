"""A decision at a run's mirror comes back to the run, and no older copy is put over it."""

import shutil

import pytest

from yxanul.errors import UsageError
from yxanul.runfolder.layout import RunFolder
from yxanul.runfolder.lineage import AttemptStart, begin_attempt
from yxanul.runfolder.mirror import Mirror
from yxanul.runfolder.mirror_decisions import bring_decisions
from yxanul.runfolder.rows import append_row
from yxanul.runfolder.storage import Place
from yxanul.runfolder.verdicts import read_verdicts, write_decision, write_override

STOP = {"stage": "s1", "step": 8, "attempt": 0, "verdict": "stop", "why": "a test"}
STOP |= {"bpb_before": None, "bpb_after": {"a": 1.0}}


@pytest.fixture
def folder(tmp_path):
    folder = RunFolder(tmp_path / "run")
    folder.create()
    write_decision(folder, STOP, checks=[])
    return folder


@pytest.fixture
def copy(tmp_path, folder):
    """The run's copy at its mirror, as a folder of its own."""
    copy = RunFolder(tmp_path / "mirror" / "run")
    copy.root.mkdir(parents=True)
    shutil.copy(folder.gates, copy.gates)
    return copy


def decide(copy: RunFolder) -> None:
    write_override(copy, STOP, decided="pass", by="Ada", reason="the margin was too tight \u2192 0")


@pytest.mark.parametrize("is_decided", [True, False])
def test_a_second_person_replaces_no_decision_of_a_first_one(folder, copy, is_decided):
    """Both have brought the copy before one of them decided."""
    manifest = copy.root.parent / "checkpoints" / "step-00000008-a0" / "manifest.json"
    manifest.parent.mkdir(parents=True)
    manifest.touch()
    if is_decided:
        decide(copy)
    before = copy.gates.read_bytes()
    write_override(folder, STOP, decided="rollback", by="Bob", reason="it learned nothing")
    mirror = Mirror(str(copy.root.parent), folder, say=print)
    if not is_decided:
        assert mirror.publish_verdicts()
        assert copy.gates.read_bytes() == folder.gates.read_bytes()
        return
    with pytest.raises(UsageError, match="Ada decided pass on the gate of s1 at"):
        mirror.publish_verdicts()
    assert copy.gates.read_bytes() == before


def test_a_decision_comes_back_once(folder, copy):
    address = str(copy.root.parent)
    assert bring_decisions(address, folder) == []
    decide(copy)
    with folder.gates.open("a") as file:
        file.write('{"row": "che')  # as a process that was killed leaves it
    (row,) = bring_decisions(address, folder)
    assert row["by"] == "Ada"
    assert folder.gates.read_bytes() == copy.gates.read_bytes()
    assert read_verdicts(folder)["s1"]["verdict"] == "pass"
    assert bring_decisions(address, folder) == []


@pytest.mark.parametrize("what", ["a half", "no row", "no author", "a verdict", "another", "none"])
def test_what_is_no_decision_on_the_runs_own_rows_does_not_come(folder, copy, what):
    before = folder.gates.read_bytes()
    decide(copy)
    if what == "a half":
        copy.gates.write_bytes(copy.gates.read_bytes()[:-1])
    elif what == "no row":
        copy.gates.write_bytes(copy.gates.read_bytes() + b"\xff\n")
    elif what == "no author":
        copy.gates.write_text(copy.gates.read_text().replace('"by": "Ada", ', ""))
    elif what == "a verdict":
        append_row(copy.gates, {"row": "verdict", **STOP, "stage": "s2"})
    elif what == "another":
        copy.gates.write_text(copy.gates.read_text().replace("a test", "another test"))
    else:
        copy.gates.unlink()
    assert bring_decisions(str(copy.root.parent), folder) == []
    assert folder.gates.read_bytes() == before


GONE_ON = {
    "steps": lambda folder: append_row(folder.metrics, {"step": 9, "attempt": 0}),
    "a gate": lambda folder: write_decision(folder, {**STOP, "stage": "s2", "step": 9}, checks=[]),
    "an attempt": lambda folder: begin_attempt(folder.lineage, AttemptStart(1, 0, None, "a test")),
    "its own": lambda folder: write_override(folder, STOP, decided="extend", by="Bob", reason="no"),
}


@pytest.mark.parametrize("what", GONE_ON)
def test_a_decision_that_came_too_late_does_not_come(folder, copy, what):
    """Else hours of the next stage would be left behind for what could not be decided here."""
    decide(copy)
    GONE_ON[what](folder)
    before = folder.gates.read_bytes()
    assert bring_decisions(str(copy.root.parent), folder) == []
    assert folder.gates.read_bytes() == before


@pytest.mark.parametrize("what", GONE_ON)
def test_no_rows_are_put_over_a_decision_until_the_run_has_gone_on_which_is_told(
    folder, copy, what
):
    """As where the mirror did not answer when the run was started, and does later."""
    said: list[str] = []
    mirror, place = Mirror(str(copy.root.parent), folder, say=said.append), copy.root.parent
    decide(copy)
    decided = copy.gates.read_bytes()
    for _ in range(2):
        mirror._copy_rows(Place(str(place)))
    assert copy.gates.read_bytes() == decided
    assert said == []
    GONE_ON[what](folder)
    for _ in range(2):
        mirror._copy_rows(Place(str(place)))
    assert copy.gates.read_bytes() == folder.gates.read_bytes()
    (line,) = said
    assert "what Ada decided on the gate of s1 came too late" in line
    assert "pass (the margin was too tight" in line
