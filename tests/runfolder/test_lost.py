"""A run without checkpoints that had some is told from one that never had any."""

from pathlib import Path

import pytest

from yxanul.runfolder.layout import RunFolder
from yxanul.runfolder.lineage import AttemptStart, begin_attempt
from yxanul.runfolder.lost import has_lost_checkpoints
from yxanul.runfolder.spending import Payment, record_payment
from yxanul.runfolder.verdicts import write_decision

VERDICT = {"stage": "s1", "step": 8, "verdict": "pass", "why": "", "bpb_before": None}


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    folder = RunFolder(tmp_path / "run")
    folder.create()
    begin_attempt(folder.lineage, AttemptStart(0, step=0, parent=None, reason="the run begins"))
    return folder


def pay(folder: RunFolder, checkpoint: str | None) -> None:
    record_payment(folder.spending, Payment(0, 1.0, 30, checkpoint=checkpoint))


def decide(folder: RunFolder, attempt: int) -> None:
    write_decision(folder, {**VERDICT, "attempt": attempt, "bpb_after": None}, checks=[])


def hint(folder: RunFolder, text: str) -> None:
    (folder.checkpoints / "latest").write_text(text)


def test_a_run_that_was_killed_before_its_first_checkpoint_has_lost_none(folder):
    pay(folder, None)
    assert not has_lost_checkpoints(folder)


@pytest.mark.parametrize(
    "tell",
    [
        lambda folder: pay(folder, "step-00000003-a0"),
        lambda folder: decide(folder, 0),
        lambda folder: hint(folder, "step-00000003-a0\n"),
    ],
    ids=["what was spent", "a verdict", "the hint"],
)
def test_whatever_tells_of_a_checkpoint_that_is_gone_tells_of_a_loss(folder, tell):
    tell(folder)
    assert has_lost_checkpoints(folder)
    (folder.checkpoints / "step-00000003-a0").mkdir()
    assert not has_lost_checkpoints(folder)


def test_the_checkpoints_of_another_attempt_are_another_matter(folder):
    pay(folder, "step-00000003-a0")
    decide(folder, 0)
    hint(folder, "nonsense")
    begin_attempt(folder.lineage, AttemptStart(1, step=0, parent=None, reason="a rollback"))
    assert not has_lost_checkpoints(folder)
    pay(folder, "step-00000003-a1")
    assert has_lost_checkpoints(folder)
