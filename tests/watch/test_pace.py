"""What a run will cost, by what it has cost: against runs whose end is known."""

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from yxanul.config.load import load_config
from yxanul.curriculum.stages import plan_stages, score_steps, seq_len_at, steps_by_seq_len
from yxanul.plan.flops import flops_per_token
from yxanul.runfolder.spending import Payment
from yxanul.watch.pace import Pace

CONFIG = load_config(Path(__file__).parents[2] / "configs" / "embedded")
COURSE = plan_stages(CONFIG)
STEPS = sum(plan.total_steps for plan in COURSE)


def payments(
    *, s_per_gflop: float = 1e-3, border_s: float = 4.0, opening_s: float = 20.0, begun: int = 0
):
    """Rows of a run in which every operation, and every score, costs the same.

    `begun`: the place of the stage that it begins with.
    """
    seconds, scoring_s, tokens = opening_s + border_s, border_s, 0
    for plan in COURSE[begun:]:
        scored = score_steps(plan)
        for step in range(plan.total_steps):
            seq_len = seq_len_at(plan.config.training, step, total_steps=plan.base_steps)
            batch = plan.config.training.batch_tokens
            seconds += batch * flops_per_token(CONFIG.model, seq_len) / 1e9 * s_per_gflop
            tokens += batch
            if step + 1 in scored:
                seconds += border_s / len(COURSE)
                scoring_s += border_s / len(COURSE)
            yield plan.index - begun, step + 1, Payment(0, seconds, tokens, scoring_s, seq_len)
        seconds, scoring_s = seconds + border_s, scoring_s + border_s


def whole_s(**costs: float) -> float:
    return list(payments(**costs))[-1][2].seconds + costs.get("border_s", 4.0)


def test_what_training_took_is_neither_scores_nor_what_preceded_the_first_row():
    pace = Pace(CONFIG.model)
    rows = [payment for _, _, payment in payments(opening_s=60.0)]
    again = [replace(row, process=1, seconds=row.seconds + 30.0) for row in rows[200:]]
    for payment in (*rows[:210], *again):  # killed, and gone on from a checkpoint
        pace.add(payment)
    without = [replace(row, seconds=row.seconds - row.scoring_s) for row in rows]
    parts = ((without[0], without[209]), (without[200], without[-1]))
    assert pace.trained_s == pytest.approx(sum(b.seconds - a.seconds for a, b in parts))


@given(
    share=st.floats(0.02, 1.0),
    s_per_gflop=st.floats(1e-5, 1.0),
    border_s=st.floats(0.0, 60),
    begun=st.integers(0, len(COURSE) - 1),
)
def test_a_steady_run_costs_what_was_forecast_at_any_step(share, s_per_gflop, border_s, begun):
    pace = Pace(CONFIG.model)
    costs = {"s_per_gflop": s_per_gflop, "border_s": border_s, "begun": begun}
    rows = list(payments(**costs))
    rows = rows[: max(2, round(share * len(rows)))]
    for _, _, payment in rows:
        pace.add(payment)
    stage, done, _ = rows[-1]
    found = pace.forecast(COURSE[begun:], stage=stage, stage_step=done)
    assert found.spent + found.left == pytest.approx(whole_s(**costs), rel=1e-6)
    assert found.left_low <= found.left <= found.left_high


@given(share=st.floats(0.02, 1.0), factor=st.floats(0.1, 10.0))
def test_another_machine_has_its_own_pace(share, factor):
    """What is left takes as long as if the run had always been on the machine that it is on."""
    here = {"s_per_gflop": 1e-3 * factor, "border_s": 4.0 * factor}
    before, after = list(payments()), list(payments(**here))
    at = min(len(before) - 3, max(2, round(share * STEPS)))
    pace, began = Pace(CONFIG.model), after[at - 1][2]
    for _, _, payment in before[:at]:
        pace.add(replace(payment, machine="8 x an old card"))
    same = [row for row in after[at : at + 3] if row[2].seq_len == after[at][2].seq_len]
    assume(len(same) > 1)
    for _, _, payment in same:
        seconds = payment.seconds - began.seconds
        scoring_s = payment.scoring_s - began.scoring_s
        told = {"process": 1, "machine": "8 x a new card", "scoring_s": scoring_s}
        pace.add(replace(payment, seconds=seconds, **told))
    stage, done, last = same[-1]
    found = pace.forecast(COURSE, stage=stage, stage_step=done)
    left_s = whole_s(**here) - last.seconds
    assert found.left == pytest.approx(left_s, rel=1e-6, abs=0.1 * here["border_s"])


def test_a_run_whose_last_stage_is_scored_costs_nothing_more():
    pace = Pace(CONFIG.model)
    rows = list(payments())
    for _, _, payment in rows:
        pace.add(payment)
    stage, done, last = rows[-1]
    scored = replace(last, seconds=last.seconds + 4.0, scoring_s=last.scoring_s + 4.0)
    pace.add(scored)
    found = pace.forecast(COURSE, stage=stage, stage_step=done, is_scored=True)
    assert (found.left, found.left_low, found.left_high) == (0.0, 0.0, 0.0)
    assert found.whole == pytest.approx(whole_s())


def test_a_checkpoint_and_samples_before_a_gate_are_of_the_border():
    plain, saving = Pace(CONFIG.model), Pace(CONFIG.model)
    for _, _, payment in list(payments())[:40]:
        plain.add(payment), saving.add(payment)
    saving.add(replace(payment, seconds=payment.seconds + 30.0))
    before, after = (p.forecast(COURSE, stage=0, stage_step=40) for p in (plain, saving))
    assert after.spent == pytest.approx(before.spent + 30)
    assert after.left > before.left + 30


def test_dollars_are_those_of_then_and_of_now():
    pace = Pace(CONFIG.model)
    for process, price in ((0, 36.0), (1, 3.6)):
        for _, _, payment in list(payments())[:40]:
            pace.add(replace(payment, process=process, usd_per_hour=price))
    found = pace.forecast(COURSE, stage=0, stage_step=40)
    usd = pace.outlook(found, usd_per_hour=3.6).usd
    assert usd.spent == pytest.approx(found.spent / 2 * (0.01 + 0.001))
    assert usd.left == pytest.approx(found.left * 0.001)
    assert pace.outlook(found, usd_per_hour=None).usd is None


def test_nothing_is_forecast_from_one_row():
    pace = Pace(CONFIG.model)
    assert pace.forecast(COURSE, stage=0, stage_step=0) is None
    pace.add(next(payments())[2])
    assert pace.forecast(COURSE, stage=0, stage_step=1) is None


def test_what_a_restart_costs_is_spent_and_is_not_the_pace():
    one, two = Pace(CONFIG.model), Pace(CONFIG.model)
    rows = list(payments())[:40]
    for _, _, payment in rows[:20]:
        one.add(payment), two.add(payment)
    for _, _, payment in rows[20:]:
        one.add(payment)
        # The second process has taken a minute to begin, and scores nothing again.
        seconds = 60.0 + payment.seconds - rows[19][2].seconds
        two.add(Payment(1, seconds, payment.tokens_spent, 0.0, payment.seq_len))
    straight = one.forecast(COURSE, stage=0, stage_step=40)
    restarted = two.forecast(COURSE, stage=0, stage_step=40)
    assert restarted.spent == pytest.approx(straight.spent + 60.0)
    assert restarted.left == pytest.approx(straight.left, rel=1e-6)


def test_a_wavering_machine_widens_the_interval():
    def width(factors: tuple[float, ...]) -> float:
        pace, seconds, before = Pace(CONFIG.model), 0.0, 0.0
        for number, (_, _, payment) in enumerate(list(payments(border_s=0.0))[:200]):
            seconds += (payment.seconds - before) * factors[number // 20 % len(factors)]
            before = payment.seconds
            pace.add(Payment(0, seconds, payment.tokens_spent, payment.scoring_s, payment.seq_len))
        found = pace.forecast(COURSE, stage=0, stage_step=200)
        return (found.left_high - found.left_low) / found.left

    assert width((0.5, 1.5)) > 1.2 * width((1.0,))


def test_what_a_new_length_takes_to_compile_is_a_border_and_not_its_pace():
    """Its first row must not be taken for what each of its tokens costs."""
    plain, compiled = Pace(CONFIG.model), Pace(CONFIG.model)
    rows = list(payments())
    lengths = [payment.seq_len for _, _, payment in rows]
    change = next(n for n in range(1, len(rows)) if lengths[n] != lengths[n - 1])
    for number, (_, _, payment) in enumerate(rows[: change + 3]):
        plain.add(payment)
        late = 300.0 if number >= change else 0.0
        compiled.add(replace(payment, seconds=payment.seconds + late))
    before, after = (
        pace.forecast(COURSE, stage=0, stage_step=change + 3) for pace in (plain, compiled)
    )
    assert after.spent == pytest.approx(before.spent + 300)
    borders = len(COURSE) + 1
    assert before.left < after.left < before.left + 300 * borders


def test_many_rows_are_kept_in_few_blocks():
    pace = Pace(CONFIG.model)
    row = next(payments())[2]
    for number in range(10_000):
        pace.add(Payment(0, float(number), row.tokens_spent * (number + 1), 0.0, row.seq_len))
    assert len(pace._blocks) <= 16
    assert sum(block.seconds for block in pace._blocks) == pytest.approx(9_999)


def test_rows_of_an_older_version_tell_what_is_spent_and_forecast_nothing():
    pace = Pace(CONFIG.model)
    for number in range(1, 5):
        pace.add(Payment(0, 10.0 * number, 2048 * number))
    assert pace.spent.seconds == 40.0
    assert pace.forecast(COURSE, stage=0, stage_step=4) is None


@pytest.mark.parametrize("plan", COURSE, ids=lambda plan: plan.name)
def test_the_steps_of_each_length_are_those_that_are_trained(plan):
    for begin in (0, 1, plan.total_steps // 2, plan.total_steps):
        counted: dict[int, int] = {}
        for step in range(begin, plan.total_steps):
            length = seq_len_at(plan.config.training, step, total_steps=plan.base_steps)
            counted[length] = counted.get(length, 0) + 1
        assert steps_by_seq_len(plan, begin) == counted
