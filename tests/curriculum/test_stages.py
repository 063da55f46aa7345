"""Budgets become whole steps, and steps know their sequence length."""

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from tests.config.strategies import runs
from yxanul.config.schema import SeqLenPhase, StageConfig, TrainingConfig
from yxanul.curriculum.changes import Segment, StageChanges, extended
from yxanul.curriculum.stages import (
    StagePlan,
    longest_seq_len,
    noise_steps,
    plan_stages,
    plateau_steps,
    seq_len_at,
)

CONFIGS = Path(__file__).parents[2] / "configs"


def training(*phases: tuple[float, int]) -> TrainingConfig:
    return TrainingConfig(
        total_tokens=1024,
        batch_tokens=1024,
        learning_rate=1e-3,
        seq_len_curriculum=tuple(SeqLenPhase(from_fraction=f, seq_len=n) for f, n in phases),
    )


@given(runs())
def test_stages_follow_one_another_and_never_exceed_their_budgets(config):
    plans = plan_stages(config)
    assert [plan.name for plan in plans] == [stage.name for stage in config.stages]
    assert [plan.index for plan in plans] == list(range(len(plans)))
    step = token = 0
    for plan in plans:
        budget, batch = plan.config.training.total_tokens, plan.config.training.batch_tokens
        assert (plan.first_step, plan.first_token) == (step, token)
        assert budget - batch < plan.tokens <= budget
        assert plan.tokens == plan.total_steps * batch
        step, token = plan.last_step, token + plan.tokens


def test_seq_len_changes_at_the_first_step_of_its_phase():
    phases = training((0.0, 16), (0.25, 32), (0.5, 64))
    found = [seq_len_at(phases, step, total_steps=8) for step in range(8)]
    assert found == [16, 16, 32, 32, 64, 64, 64, 64]


def test_a_phase_that_is_shorter_than_a_step_is_passed_over():
    phases = training((0.0, 16), (0.01, 32), (0.02, 64))
    assert [seq_len_at(phases, step, total_steps=3) for step in range(3)] == [64, 64, 64]


@given(
    st.sets(st.floats(0.001, 0.999), max_size=4),
    st.integers(1, 300),
)
def test_every_step_has_a_phase_and_lengths_come_in_order(starts, total):
    phases = [(start, 2 + i) for i, start in enumerate([0.0, *sorted(starts)])]
    found = [seq_len_at(training(*phases), step, total_steps=total) for step in range(total)]
    assert found == sorted(found)
    assert set(found) <= {length for _, length in phases}


@given(runs())
def test_the_longest_seq_len_is_that_of_some_phase(config):
    lengths = [p.seq_len for s in config.stages for p in s.training.seq_len_curriculum]
    assert longest_seq_len(config.stages) == max(lengths)


def lengthened(schedule: str, *ends: int) -> StagePlan:
    """The plan of a stage of 100 steps, scored each tenth, as its extensions have made it."""
    settings = training((0.0, 16)).model_copy(
        update={"total_tokens": 100 * 1024, "schedule": schedule, "decay_fraction": 0.2}
    )
    data = {"source": "somewhere", "replay_share": 0.0}
    stage = StageConfig.model_validate({"name": "one", "training": settings, "data": data})
    changes, first = StageChanges(segments=(Segment(0, 100, 0),)), 100
    for attempt, end in enumerate(ends, start=1):
        changes = extended(changes, first=first, end=end, attempt=attempt)
        first = end
    return StagePlan(0, stage, 0, 100, 0, changes)


def test_a_plateau_and_noise_are_told_by_one_cycle_of_the_rates():
    assert plateau_steps(lengthened("linear_to_zero")) == (80, 95)
    assert noise_steps(lengthened("linear_to_zero")) == (60, 70, 80, 90, 95)
    once, twice = lengthened("linear_to_zero", 120), lengthened("linear_to_zero", 120, 160)
    assert (once.cycle_start, twice.cycle_start) == (100, 120)
    assert plateau_steps(once) == (116, 119)
    assert plateau_steps(twice) == (152, 158)
    assert noise_steps(twice) == (128, 144, 152, 158)
    # under wsd the stable part becomes longer, at one and the same rate
    assert plateau_steps(lengthened("wsd", 120)) == (80, 100)
    assert noise_steps(lengthened("wsd", 120)) == (72, 80, 84, 96, 100)


def test_noise_of_a_cycle_with_too_few_scores_is_that_of_the_newest_before_it():
    base = noise_steps(lengthened("linear_to_zero"))
    assert noise_steps(lengthened("linear_to_zero", 120)) == base
    assert noise_steps(lengthened("linear_to_zero", 120, 130)) == base
    long = noise_steps(lengthened("linear_to_zero", 160))
    assert min(long) > 100
    assert noise_steps(lengthened("linear_to_zero", 160, 165)) == long
