"""Scores are kept per document, found by branch, and damage is named."""

import json
import math

import pytest

from yxanul.errors import CorruptDataError
from yxanul.runfolder.scores import (
    DomainScore,
    domain_course,
    forget_after,
    read_score,
    score_path,
    scores_at,
    write_score,
)
from yxanul.runfolder.skill_scores import TaskScore, read_task_score, write_task_score


def score(step: int, attempt: int, domain: str = "api-docs", bpb: float = 1.0) -> DomainScore:
    return DomainScore(step, attempt, domain, bpb, [1.5, 2.5], [10, 20], [3, 6])


def test_a_score_comes_back_as_it_was_written(tmp_path):
    write_score(tmp_path, score(8, 0))
    path = score_path(tmp_path, step=8, attempt=0, domain="api-docs")
    assert read_score(path) == score(8, 0)


def test_scores_of_abandoned_attempts_do_not_count(tmp_path):
    for step, attempt, bpb in ((8, 0, 1.0), (12, 0, 9.0), (12, 1, 2.0), (16, 1, 3.0)):
        write_score(tmp_path, score(step, attempt, bpb=bpb))
        write_score(tmp_path, score(step, attempt, "docs", bpb=bpb + 0.5))
    branch = {1: math.inf, 0: 8}
    assert {d: s.bpb for d, s in scores_at(tmp_path, 12, branch=branch).items()} == {
        "api-docs": 2.0,
        "docs": 2.5,
    }
    course = domain_course(tmp_path, "docs", branch=branch)
    assert [(s.step, s.bpb) for s in course] == [(8, 1.5), (12, 2.5), (16, 3.5)]
    skills = [tmp_path / "skills" / f"step-{step:08d}-a1-cloze.json" for step in (12, 16)]
    skills[0].parent.mkdir()
    for path in skills:
        path.touch()
    forget_after(tmp_path, step=12, attempt=1)
    assert [path.exists() for path in skills] == [True, False]
    assert [s.step for s in domain_course(tmp_path, "docs", branch=branch)] == [8, 12]


@pytest.mark.parametrize(
    "change",
    [
        {"nats": [1.0]},
        {"bpb": math.nan},
        {"nats": [1.0, math.inf]},
        {"extra": 1},
        {"bpb": "x"},
        {"text_sha256": 1},
    ],
)
def test_a_damaged_score_is_named(tmp_path, change):
    write_score(tmp_path, score(8, 0))
    path = score_path(tmp_path, step=8, attempt=0, domain="api-docs")
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(CorruptDataError, match=r"api-docs\.json"):
        read_score(path)
    path.write_text("{")
    with pytest.raises(CorruptDataError, match="bring a good copy back"):
        read_score(path)


@pytest.mark.parametrize(
    "change",
    [
        {"max_new_tokens": "64"},
        {"max_new_tokens": ""},
        {"cut_prompts": "x"},
        {"lacked_module": 1.5},
        {"shots": None},
        {"origin": 4},
    ],
)
def test_a_field_of_a_task_that_is_of_another_kind_is_damage(tmp_path, change):
    path = tmp_path / "gsm8k-5shot.json"
    score = TaskScore("gsm8k", "3.0", 5, "a test", "0", "0", ["a"], {"exact_match": [1.0]})
    write_task_score(path, score)
    assert read_task_score(path) == score
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(CorruptDataError, match=r"gsm8k-5shot\.json"):
        read_task_score(path)
