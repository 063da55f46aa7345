"""What is stored of a stage that was extended still tells its noise, and whether it falls."""

import math
import random
from dataclasses import replace

import pytest

from tests.curriculum.test_stages import lengthened
from yxanul.config.gate import GateConfig
from yxanul.curriculum.checks.check import Check
from yxanul.curriculum.evidence import Asked, gather_evidence
from yxanul.curriculum.gate import Evidence, domain_checks
from yxanul.curriculum.stages import StagePlan, score_steps
from yxanul.curriculum.statistics.noise import comparison_noise
from yxanul.runfolder.layout import RunFolder
from yxanul.runfolder.rows import append_row
from yxanul.runfolder.scores import DomainScore, scores_at, write_score

BASE, ONCE = lengthened("linear_to_zero"), lengthened("linear_to_zero", 110)
BATCH = BASE.config.training.batch_tokens


def curve() -> dict[int, float]:
    """{step: bits per byte} of a stage that has long been on its plateau, as it was scored."""
    generator = random.Random(3)
    extension = {step for step in score_steps(ONCE) if step > BASE.last_step}
    steps = sorted(score_steps(BASE) | extension | {BASE.last_step})
    found = {step: 2.0 + generator.gauss(0, 0.002) for step in steps}
    # the last two lie close to one another, and waver
    return {0: 2.0, **found, 109: 2.004, ONCE.last_step: 2.0}


@pytest.fixture
def folder(tmp_path) -> RunFolder:
    """A run that trained a stage and lengthened it, with scores of two domains."""
    folder = RunFolder(tmp_path)
    folder.create()
    for attempt, parent in ((0, None), (1, "step-00000100-a0")):
        row = {"event": "attempt", "attempt": attempt, "parent": parent}
        append_row(folder.lineage, row)
    for step, bpb in curve().items():
        for domain in ("own", "older"):
            nats = [bpb * (10.0 + place) for place in range(20)]
            attempt = int(step > BASE.last_step)
            score = DomainScore(step, attempt, domain, bpb, nats, [1] * 20, [1] * 20)
            write_score(folder.scores, score)
    return folder


def gathered(folder: RunFolder, plan: StagePlan, *, attempt: int) -> Evidence:
    asked = Asked(attempt, own_domains=("own",), older_domains=("older",))
    return gather_evidence(folder, plan, asked=asked)


def test_a_stage_that_was_extended_by_few_scores_keeps_the_noise_that_it_had(folder):
    before, after = gathered(folder, BASE, attempt=0), gathered(folder, ONCE, attempt=1)
    # the stage's own end is not in it
    course = [(step * BATCH, curve()[step]) for step in (60, 70, 80, 90, 95)]
    assert before.noise == pytest.approx(dict.fromkeys(("own", "older"), comparison_noise(course)))
    assert after.noise == before.noise


def test_an_extended_stage_on_its_plateau_is_not_taken_for_one_that_falls(folder):
    evidence = gathered(folder, ONCE, attempt=1)
    last, end = evidence.courses["own"][-2:]
    steepness = (last[1] - end[1]) / math.log(end[0] / last[0])
    assert steepness * math.log(1.1) / end[1] > GateConfig().extension.min_gain
    checks: list[Check] = domain_checks(GateConfig(), evidence)
    assert [(check.id, check.action) for check in checks] == [("G2", "stop"), ("G3", None)]


@pytest.mark.parametrize(
    "other", [{"text_sha256": "b"}, {"text_sha256": None, "bytes": [2] * 20}], ids=["new", "old"]
)
def test_scores_of_other_documents_at_the_two_ends_are_no_verdict(folder, other):
    last = scores_at(folder.scores, BASE.last_step, branch={0: math.inf})["own"]
    first = replace(last, step=BASE.first_step, text_sha256="a")
    write_score(folder.scores, first)
    for found, unlike in ((replace(first, step=last.step), {}), (replace(last, **other), {"own"})):
        write_score(folder.scores, found)
        evidence = gathered(folder, BASE, attempt=0)
        assert evidence.failures.keys() == set(unlike)
    (progress, _) = domain_checks(GateConfig(), evidence)
    assert (progress.id, progress.result, progress.action) == ("G2", "not run", "stop")
    assert "over other documents at the stage's entry" in progress.why
