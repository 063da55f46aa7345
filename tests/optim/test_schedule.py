"""The learning rate's factor is bounded, continuous, flat where it says so, and ends near zero."""

from itertools import accumulate, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from yxanul.config.schema import SeqLenPhase, TrainingConfig
from yxanul.optim.schedule import learning_rate_factor

TOTALS = st.integers(1, 400)


def training(schedule: str, warmup: float, decay: float = 0.3) -> TrainingConfig:
    return TrainingConfig(
        total_tokens=1024,
        batch_tokens=1024,
        learning_rate=1e-3,
        schedule=schedule,
        warmup_fraction=warmup,
        decay_fraction=decay,
        seq_len_curriculum=(SeqLenPhase(from_fraction=0.0, seq_len=16),),
    )


@st.composite
def schedules(draw) -> TrainingConfig:
    warmup = draw(st.floats(0, 0.95))
    decay = draw(st.floats(0.01, 1 - warmup))
    return training(draw(st.sampled_from(["linear_to_zero", "wsd"])), warmup, decay)


def factors(config: TrainingConfig, total: int) -> list[float]:
    return [learning_rate_factor(config, step, total_steps=total) for step in range(total)]


def slopes(config: TrainingConfig, total: int) -> tuple[float, float]:
    """The most that the factor may rise, and fall, from one step to the next."""
    warmup = round(config.warmup_fraction * total)
    decay = max(1, total - warmup)
    if config.schedule == "wsd":
        decay = max(1, min(decay, round(config.decay_fraction * total)))
    return 1 / (warmup + 1), 1 / decay


@given(schedules(), TOTALS)
def test_every_factor_is_above_zero_and_at_most_one(config, total):
    assert all(0 < factor <= 1 for factor in factors(config, total))


@given(schedules(), TOTALS)
def test_neighbouring_steps_differ_by_no_more_than_the_slopes(config, total):
    rise, fall = slopes(config, total)
    found = factors(config, total)
    for now, after in pairwise(found):
        assert -fall - 1e-12 <= after - now <= rise + 1e-12


@given(schedules(), TOTALS)
def test_the_factor_rises_then_falls(config, total):
    found = factors(config, total)
    top = found.index(max(found))
    assert found[: top + 1] == sorted(found[: top + 1])
    assert found[top:] == sorted(found[top:], reverse=True)


@given(schedules(), TOTALS)
def test_the_last_step_is_one_slope_above_zero(config, total):
    rise, fall = slopes(config, total)
    assert factors(config, total)[-1] <= max(fall, rise) + 1e-12


@given(st.floats(0, 0.4), st.floats(0.1, 0.5), st.integers(50, 400))
def test_wsd_is_flat_between_warm_up_and_decay(warmup, decay, total):
    config = training("wsd", warmup, decay)
    stable = range(round(warmup * total), total - round(decay * total) + 1)
    assert {learning_rate_factor(config, step, total_steps=total) for step in stable} == {1.0}


def test_linear_to_zero_is_a_tent():
    assert factors(training("linear_to_zero", 0.2), 10) == pytest.approx(
        [1 / 3, 2 / 3, 1, 7 / 8, 6 / 8, 5 / 8, 4 / 8, 3 / 8, 2 / 8, 1 / 8]
    )


@pytest.mark.parametrize("step", [-1, 10])
def test_a_step_outside_the_stage_is_refused(step):
    with pytest.raises(ValueError, match="outside the stage"):
        learning_rate_factor(training("wsd", 0.1), step, total_steps=10)


def lengthened(config: TrainingConfig, total: int, ends: list[int]) -> list[float]:
    return [
        learning_rate_factor(config, step, total_steps=total, extensions=ends)
        for step in range(ends[-1])
    ]


@given(schedules(), TOTALS, st.lists(st.integers(1, 40), min_size=1, max_size=3))
def test_a_lengthened_stage_stays_in_bounds_and_ends_low(config, total, more):
    ends = list(accumulate(more, initial=total))[1:]
    found = lengthened(config, total, ends)
    assert all(0 < factor <= 1 for factor in found)
    assert found[-1] <= factors(config, total)[-1] or config.schedule == "linear_to_zero"


@given(st.integers(20, 200), st.integers(5, 40))
def test_a_linear_stage_is_lengthened_by_a_small_cycle(total, more):
    config = training("linear_to_zero", 0.1)
    found = lengthened(config, total, [total + more])
    assert found[:total] == factors(config, total)
    assert found[total:] == [0.3 * factor for factor in factors(config, more)]


@given(st.integers(20, 200), st.integers(1, 40))
def test_a_stable_stage_is_lengthened_before_its_decay(total, more):
    config = training("wsd", 0.1)
    decay = round(0.3 * total)
    before, after = factors(config, total), lengthened(config, total, [total + more])
    assert after[: total - decay] == before[: total - decay]
    assert set(after[total - decay : total - decay + more]) <= {1.0}
    assert after[total - decay + more :] == before[total - decay :]
