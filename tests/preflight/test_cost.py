"""The forecast: from the measured rates, phase by phase, against the budget."""

from dataclasses import replace
from pathlib import Path

import pytest

from yxanul.config.load import load_config
from yxanul.config.optimization import BudgetConfig
from yxanul.errors import GateStopError, UsageError
from yxanul.plan.flops import flops_per_token, stage_flops
from yxanul.preflight.cost import (
    Progress,
    forecast,
    look_at_cost,
    read_progress,
    settled_budget,
)
from yxanul.preflight.machine import exchange_seconds, look_at_links, look_at_step
from yxanul.preflight.measuring import Measured, Rate, measured_lengths
from yxanul.runfolder.layout import RunFolder
from yxanul.runfolder.rows import append_row
from yxanul.runfolder.spending import Payment, Spent, record_payment

CONFIG = load_config(Path(__file__).parents[2] / "configs")
FLOPS = sum(stage_flops(CONFIG.model, stage) for stage in CONFIG.stages)
TOKENS = sum(stage.training.total_tokens for stage in CONFIG.stages)
PEAK = 989e12


def rate(seq_len: int, mfu: float) -> Rate:
    flops = flops_per_token(CONFIG.model, seq_len)
    return Rate(seq_len, mfu * PEAK / flops, flops, mfu)


SHORT, LONG = measured_lengths(CONFIG)
EIGHT = Measured("H100", 8, "block", (rate(SHORT, 0.40), rate(LONG, 0.50)), 200e9, ())
NO_BUDGET = BudgetConfig()
NEW = Progress()


def judged(**budget: float):
    return look_at_cost(CONFIG, EIGHT, budget=BudgetConfig(**budget), progress=NEW)


def test_the_range_lies_between_the_best_and_the_worst_that_was_measured():
    hours = forecast(CONFIG, EIGHT, progress=NEW)
    assert hours.low == pytest.approx(FLOPS / (8 * PEAK * 0.50) / 3600)
    steps = sum(s.training.total_tokens / s.training.batch_tokens for s in CONFIG.stages)
    waiting = steps * exchange_seconds(EIGHT, CONFIG) / 3600
    worst = 1.10 * (FLOPS / (8 * PEAK * 0.40) / 3600 + waiting)
    assert hours.high == pytest.approx(worst)
    assert hours.low < hours.value < hours.high


def test_one_length_and_one_process_leave_what_comes_on_top():
    alone = replace(EIGHT, processes=1, rates=EIGHT.rates[:1], bus_bytes_per_s=None)
    hours = forecast(CONFIG, alone, progress=NEW)
    assert hours.low == pytest.approx(FLOPS / (PEAK * 0.40) / 3600)
    assert hours.value == pytest.approx(1.05 * hours.low)
    assert hours.high == pytest.approx(1.10 * hours.low)


def test_a_budget_that_the_best_case_exceeds_is_refused_with_20():
    low = 10 * forecast(CONFIG, EIGHT, progress=NEW).low
    found = judged(usd_per_hour=10.0, usd=0.99 * low)
    assert (found.state, found.code) == ("fail", GateStopError.exit_code)
    assert "even at best" in found.why
    assert found.value["usd_low"] == pytest.approx(low)
    assert judged(hours=0.99 * low / 10).code == GateStopError.exit_code


def test_a_budget_that_only_the_worst_case_exceeds_is_told():
    hours = forecast(CONFIG, EIGHT, progress=NEW)
    found = judged(usd_per_hour=10.0, usd=10 * (hours.low + hours.high) / 2)
    assert (found.state, found.code) == ("warn", 0)
    assert "would stop, saved" in found.why
    assert judged(usd_per_hour=10.0, usd=10.1 * hours.high).state == "pass"


def test_without_a_budget_nobody_judges_and_without_a_price_there_are_no_dollars():
    found = judged()
    assert found.state == "warn"
    assert "no budget judges it" in found.why
    assert found.value["usd"] is None
    assert "--usd_per_hour" in found.why
    assert judged(hours=1e6).state == "pass"


def test_a_run_that_goes_on_costs_what_is_left_and_what_was_spent():
    last = CONFIG.stages[-1].training
    before = Progress(TOKENS - last.total_tokens // 2, spent=Spent(7200.0, 0.0, 7200.0))
    hours = forecast(CONFIG, EIGHT, progress=before)
    assert 0 < hours.low < forecast(CONFIG, EIGHT, progress=NEW).low / 10
    budget = BudgetConfig(usd_per_hour=10.0, usd=10 * (2 + 1.01 * hours.high))
    found = look_at_cost(CONFIG, EIGHT, budget=budget, progress=before)
    assert found.state == "pass"
    assert found.value["tokens_left"] == last.total_tokens - last.total_tokens // 2
    assert "2.00 h of it are spent" in found.why
    spent = budget.model_copy(update={"usd": 10.0})
    assert look_at_cost(CONFIG, EIGHT, budget=spent, progress=before).code == 20


def test_hours_that_were_paid_elsewhere_stay_what_they_cost():
    hours = forecast(CONFIG, EIGHT, progress=NEW)
    before = Progress(0, Spent(15 * 3600.0, usd=50.0))
    budget = BudgetConfig(usd_per_hour=10.0, usd=51 + 10 * hours.high)
    found = look_at_cost(CONFIG, EIGHT, budget=budget, progress=before)
    assert found.state == "pass"
    assert found.value["usd"] == pytest.approx(50 + 10 * hours.value)


def test_where_a_run_stands_is_read_from_its_folder_or_its_mirror(tmp_path):
    mirror, here = RunFolder(tmp_path / "mirror" / "run"), RunFolder(tmp_path / "here")
    for folder, tokens in ((mirror, 700), (here, 900)):
        folder.root.mkdir(parents=True)
        append_row(folder.metrics, {"step": 7, "attempt": 0, "tokens_seen": tokens})
        record_payment(folder.spending, Payment(0, 5.0, tokens))
    assert read_progress(here, str(tmp_path / "mirror")) == Progress(700, Spent(5.0, 0.0, 5.0))
    append_row(here.lineage, {"attempt": 0})
    assert read_progress(here, str(tmp_path / "mirror")) == Progress(900, Spent(5.0, 0.0, 5.0))
    nothing = RunFolder(tmp_path / "nowhere")
    assert read_progress(nothing, None) == read_progress(nothing, str(tmp_path / "empty")) == NEW


@pytest.mark.parametrize("amount", [-1.0, 0.0, float("nan"), float("inf")])
@pytest.mark.parametrize("flag", ["--usd_per_hour", "--budget_usd"])
def test_what_is_no_amount_of_dollars_is_refused(flag, amount):
    price, usd = (amount, None) if flag == "--usd_per_hour" else (None, amount)
    with pytest.raises(UsageError, match=f"{flag} {amount:g} is not an amount"):
        settled_budget(NO_BUDGET, usd_per_hour=price, usd=usd)


def test_dollars_need_a_price_and_flags_come_before_the_configuration():
    with pytest.raises(UsageError, match="needs --usd_per_hour"):
        settled_budget(NO_BUDGET, usd_per_hour=None, usd=200.0)
    configured = BudgetConfig(usd_per_hour=10.0, usd=100.0)
    settled = settled_budget(configured, usd_per_hour=None, usd=200.0)
    assert (settled.usd_per_hour, settled.usd) == (10.0, 200.0)


def test_a_bus_is_judged_by_the_share_of_an_update():
    assert look_at_links(EIGHT, CONFIG).state == "pass"
    slow = look_at_links(replace(EIGHT, bus_bytes_per_s=2e9), CONFIG)
    assert slow.state == "warn"
    assert "NVLink" in slow.why
    alone = look_at_links(replace(EIGHT, processes=1, bus_bytes_per_s=None), CONFIG)
    assert (alone.state, alone.value) == ("pass", None)
    assert "not measured" in alone.why


def test_a_slow_card_and_an_unknown_peak_are_told():
    unknown = tuple(replace(rate, mfu=None) for rate in EIGHT.rates)
    found = look_at_step(
        replace(EIGHT, rates=unknown, slow=("one, process 3 multiplies slowly",)), CONFIG
    )
    assert found.state == "warn"
    assert "process 3" in found.why
    assert "MFU" not in found.why
    assert (
        look_at_step(EIGHT, CONFIG).value["rates"][0]["tokens_per_s"]
        == 8 * EIGHT.rates[0].tokens_per_s
    )


def test_a_step_that_deepspeed_will_do_and_torch_did_is_a_warning():
    compute = CONFIG.optimization.compute.model_copy(update={"engine": "deepspeed"})
    optimization = CONFIG.optimization.model_copy(update={"compute": compute})
    found = look_at_step(EIGHT, CONFIG.model_copy(update={"optimization": optimization}))
    assert found.state == "warn"
    assert "DeepSpeed" in found.why
