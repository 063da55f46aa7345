"""Attempts form a tree; the run is one branch of it."""

import math

from yxanul.runfolder.lineage import (
    AttemptStart,
    attempt_at,
    begin_attempt,
    branch_of,
    checkpoint_at,
    current_branch,
    is_on,
    register_gate,
    stage_changes,
)
from yxanul.runfolder.rows import read_rows


def begin(path, attempt, step, parent, **more):
    start = AttemptStart(attempt, step=step, parent=parent, reason="a test", **more)
    begin_attempt(path, start)


def test_a_rollback_leaves_what_came_after_its_parent(tmp_path):
    path = tmp_path / "lineage.jsonl"
    begin(path, 0, 0, None)
    begin(path, 1, 300, "step-00000300-a0", stage="b", changes={"rollbacks": 1})
    begin(path, 2, 365, "step-00000365-a1", stage="b", changes={"rollbacks": 1, "extensions": 1})
    assert current_branch(path) == {2: math.inf, 1: 365, 0: 300}
    assert branch_of(path, 0) == {0: math.inf}
    assert is_on(current_branch(path), {"attempt": 0, "step": 300})
    assert not is_on(current_branch(path), {"attempt": 0, "step": 301})
    assert stage_changes(path, 0) == {}
    assert stage_changes(path, 1) == {"b": {"rollbacks": 1}}
    assert stage_changes(path, 2)["b"]["extensions"] == 1
    # going back by name before the rollback forgets what it changed
    begin(path, 3, 300, "step-00000300-a0")
    assert stage_changes(path, 3) == {}


def test_every_step_has_its_attempt_and_its_checkpoint(tmp_path):
    path = tmp_path / "lineage.jsonl"
    begin(path, 0, 0, None)
    begin(path, 1, 300, "step-00000300-a0")
    assert [attempt_at(current_branch(path), step) for step in (0, 299, 300, 400)] == [0, 0, 1, 1]
    assert checkpoint_at(path, 0) is None
    assert checkpoint_at(path, 300) == "step-00000300-a0"
    assert checkpoint_at(path, 365) == "step-00000365-a1"


def test_of_two_attempts_that_end_at_one_step_the_older_did_it(tmp_path):
    path = tmp_path / "lineage.jsonl"
    begin(path, 0, 0, None)
    begin(path, 1, 51, "step-00000051-a0")  # saved at its own first step, then left there
    begin(path, 2, 51, "step-00000051-a1")
    assert current_branch(path) == {2: math.inf, 1: 51, 0: 51}
    assert checkpoint_at(path, 48) == "step-00000048-a0"


def test_a_run_from_other_weights_goes_back_to_them(tmp_path):
    path = tmp_path / "lineage.jsonl"
    begin(path, 0, 300, "/elsewhere/step-00000300-a0")
    assert checkpoint_at(path, 300) == "/elsewhere/step-00000300-a0"
    begin(path, 1, 300, "/elsewhere/step-00000300-a0")
    assert current_branch(path) == {1: math.inf}


def test_the_first_hash_of_a_gate_holds(tmp_path):
    path = tmp_path / "lineage.jsonl"
    assert register_gate(path, "b", attempt=0, sha256="one") == "one"
    assert register_gate(path, "b", attempt=1, sha256="two") == "one"
    assert register_gate(path, "c", attempt=1, sha256="two") == "two"
    assert len(read_rows(path)) == 2
