"""Each check passes, warns and fails where it says it does."""

import math
import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from yxanul.config.schema import GateConfig
from yxanul.curriculum.bootstrap import Change
from yxanul.curriculum.checks import (
    Integrity,
    forecast_gain,
    integrity_check,
    progress_check,
    retention_check,
    stability_check,
)

GATE = GateConfig(min_improvement=0.01, retention_margin=0.01, retention_limit=0.02)
WHOLE = Integrity(
    checkpoint="step-00000008-a0",
    weights_equal=True,
    loss=3.25,
    loss_again=3.25,
    loss_tolerance=0.0,
    tokens_seen=2048,
    tokens_in_ledger=2048,
    scorer_error=1e-7,
    scorer_tolerance=1e-4,
)


def change(low: float, value: float, high: float) -> Change:
    return Change(value, low, high, documents=30, minimal_detectable=0.01)


def falling(steps: int, *, noise: float = 0.1) -> list[float]:
    generator = random.Random(steps)
    return [3 + 5 * math.exp(-4 * i / steps) + generator.gauss(0, noise) for i in range(steps)]


@pytest.mark.parametrize(
    ("bounds", "result", "action"),
    [
        ((-0.05, -0.04, -0.03), "pass", None),
        ((-0.05, -0.02, 0.01), "warn", None),
        ((-0.02, -0.005, 0.01), "fail", "stop"),
        ((0.01, 0.02, 0.03), "fail", "stop"),
    ],
)
def test_progress_passes_only_with_evidence(bounds, result, action):
    check = progress_check("math", change(*bounds), gate=GATE, forecast_gain=None)
    assert (check.id, check.subject, check.result, check.action) == ("G2", "math", result, action)
    assert (check.low, check.value, check.high) == bounds


def test_a_domain_that_got_worse_is_not_extended():
    check = progress_check("math", change(0.01, 0.02, 0.03), gate=GATE, forecast_gain=0.5)
    assert check.action == "stop"


@pytest.mark.parametrize("judge", [progress_check, retention_check])
def test_too_few_documents_prove_nothing(judge):
    few = replace(change(-math.inf, 0.5, math.inf), documents=4)
    more = {"forecast_gain": None} if judge is progress_check else {}
    check = judge("math", few, gate=GATE, **more)
    assert (check.result, check.action) == ("not applicable", None)
    assert "4 documents" in check.why


@pytest.mark.parametrize(("gain", "action"), [(0.02, "extend"), (0.003, "extend"), (0.0, "stop")])
def test_a_stage_that_still_falls_is_extended_and_a_flat_one_is_not(gain, action):
    check = progress_check("math", change(-0.02, -0.005, 0.01), gate=GATE, forecast_gain=gain)
    assert check.action == action


@pytest.mark.parametrize(
    ("bounds", "result", "action"),
    [
        ((-0.02, -0.01, 0.005), "pass", None),
        ((0.0, 0.008, 0.016), "warn", None),
        ((0.015, 0.03, 0.045), "warn", None),
        ((0.021, 0.03, 0.04), "fail", "rollback"),
    ],
)
def test_retention_fails_only_with_evidence(bounds, result, action):
    check = retention_check("wikipedia", change(*bounds), gate=GATE)
    assert (check.id, check.result, check.action) == ("G3", result, action)


@pytest.mark.parametrize(
    ("part", "word"),
    [
        ({"weights_equal": False}, "does not hold the weights"),
        ({"loss_again": 3.2500001}, "fixed batch"),
        ({"tokens_seen": 2047}, "2,047"),
        ({"scorer_error": 0.01}, "log-softmax"),
        ({"loss": math.nan}, "fixed batch"),
        ({"scorer_error": math.nan}, "log-softmax"),
    ],
)
def test_anything_wrong_with_the_checkpoint_stops(part, word):
    check = integrity_check(replace(WHOLE, **part))
    assert (check.result, check.action) == ("fail", "stop")
    assert word in check.why


def test_a_whole_checkpoint_passes_and_an_unread_one_is_not_run():
    assert integrity_check(WHOLE).result == "pass"
    assert integrity_check(None).result == "not run"


@given(st.integers(1, 300))
def test_a_quiet_loss_is_stable(steps):
    assert stability_check(falling(steps), GATE).result == "pass"


def test_one_spike_of_a_short_stage_warns_and_three_roll_back():
    losses = falling(100)
    for count, step in enumerate((40, 60, 80), start=1):
        losses[step] *= 3
        check = stability_check(losses, GATE)
        assert check.value == pytest.approx(count / 100)
        assert check.result == ("fail" if count == 3 else "warn")
    assert check.action == "rollback"


def test_a_stage_that_ends_above_its_beginning_has_diverged():
    check = stability_check([3 + 0.03 * step for step in range(100)], GATE)
    assert (check.result, check.action) == ("fail", "rollback")
    assert "1.9" in check.why


def test_a_stage_without_rows_is_not_judged():
    assert stability_check([], GATE).result == "not run"


def test_the_forecast_follows_the_last_two_points_in_log_tokens():
    # falls by 0.1 when tokens double: by 0.1 x log2(1.1) with 10 % more
    course = [(0, 5.0), (500, 1.2), (1000, 1.1)]
    assert forecast_gain(course) == pytest.approx(0.1 * math.log2(1.1) / 1.1)
    assert forecast_gain(course[:2]) is None
    assert forecast_gain([]) is None
