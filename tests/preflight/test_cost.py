"""The forecast: from the measured rates, phase by phase, against the budget."""

from dataclasses import replace
from pathlib import Path

import pytest

from tests.preflight.mirrors import run_at
from yxanul.config.load import dump_config, load_config
from yxanul.config.optimization import BudgetConfig
from yxanul.curriculum.changes import Segment, StageChanges, extended
from yxanul.curriculum.stages import plan_stages, steps_by_seq_len
from yxanul.errors import CorruptDataError, GateStopError, UsageError
from yxanul.plan.flops import flops_per_token
from yxanul.plan.parameters import parameter_count
from yxanul.preflight.cost import forecast, look_at_cost, settled_budget
from yxanul.preflight.machine import exchange_seconds, look_at_links, look_at_step
from yxanul.preflight.measuring import Measured, Rate, measured_lengths
from yxanul.preflight.standing import Progress, read_progress
from yxanul.runfolder.checkpoints import checkpoint_name
from yxanul.runfolder.layout import RunFolder
from yxanul.runfolder.lineage import AttemptStart, begin_attempt
from yxanul.runfolder.rows import append_row
from yxanul.runfolder.spending import Payment, Spent, record_payment
from yxanul.runfolder.verdicts import write_decision

CONFIGS = Path(__file__).parents[2] / "configs"
CONFIG = load_config(CONFIGS)
COURSE = plan_stages(CONFIG)
BATCH = COURSE[0].config.training.batch_tokens  # every stage's
STEPS = sum(plan.total_steps for plan in COURSE)
FLOPS = sum(
    BATCH * steps * flops_per_token(CONFIG.model, seq_len)
    for plan in COURSE
    for seq_len, steps in steps_by_seq_len(plan).items()
)
PEAK = 989e12


def rate(seq_len: int, mfu: float, *, optimizer_s: float = 0.0) -> Rate:
    flops = flops_per_token(CONFIG.model, seq_len)
    per_s = mfu * PEAK / flops
    return Rate(seq_len, per_s, flops, mfu, per_s, optimizer_s)


SHORT, LONG = measured_lengths(CONFIG)
EIGHT = Measured("H100", 8, "block", "off", (rate(SHORT, 0.40), rate(LONG, 0.50)), 200e9, ())
NO_BUDGET = BudgetConfig()
NEW = Progress(COURSE)


def judged(**budget: float):
    return look_at_cost(CONFIG, EIGHT, budget=BudgetConfig(**budget), progress=NEW)


def test_the_range_lies_between_the_best_and_the_worst_that_was_measured():
    hours = forecast(CONFIG, EIGHT, progress=NEW)
    assert hours.low == pytest.approx(FLOPS / (8 * PEAK * 0.50) / 3600)
    waiting = STEPS * exchange_seconds(EIGHT, CONFIG) / 3600
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
    last, done = COURSE[-1], COURSE[-1].total_steps // 2
    before = Progress(COURSE, last.index, done, spent=Spent(7200.0, 0.0, 7200.0))
    hours = forecast(CONFIG, EIGHT, progress=before)
    assert 0 < hours.low < forecast(CONFIG, EIGHT, progress=NEW).low / 10
    budget = BudgetConfig(usd_per_hour=10.0, usd=10 * (2 + 1.01 * hours.high))
    found = look_at_cost(CONFIG, EIGHT, budget=budget, progress=before)
    assert found.state == "pass"
    assert found.value["tokens_left"] == BATCH * (last.total_steps - done)
    assert "2.00 h of it are spent" in found.why
    spent = budget.model_copy(update={"usd": 10.0})
    assert look_at_cost(CONFIG, EIGHT, budget=spent, progress=before).code == 20


def test_a_run_that_trains_no_more_is_let_through_to_its_last_gate():
    """Whatever it has spent: `yxanul run` asks the gate at once, which judges the budget itself."""
    done = Progress(COURSE, COURSE[-1].index, COURSE[-1].total_steps, spent=Spent(7200.0, 20.0))
    over = BudgetConfig(usd_per_hour=10.0, usd=19.0, hours=1.9)
    found = look_at_cost(CONFIG, EIGHT, budget=over, progress=done)
    assert (found.state, found.code, found.value["tokens_left"]) == ("warn", 0, 0)
    assert "nothing is left to train" in found.why
    one_more = replace(done, stage_step=done.stage_step - 1)
    assert look_at_cost(CONFIG, EIGHT, budget=over, progress=one_more).code == 20


def test_hours_that_were_paid_elsewhere_stay_what_they_cost():
    hours = forecast(CONFIG, EIGHT, progress=NEW)
    before = Progress(COURSE, spent=Spent(15 * 3600.0, usd=50.0))
    budget = BudgetConfig(usd_per_hour=10.0, usd=51 + 10 * hours.high)
    found = look_at_cost(CONFIG, EIGHT, budget=budget, progress=before)
    assert found.state == "pass"
    assert found.value["usd"] == pytest.approx(50 + 10 * hours.value)


def optimizing(short_s: float, long_s: float) -> Measured:
    """Return what was measured where an optimizer's step takes so long, timed at both lengths."""
    rates = rate(SHORT, 0.40, optimizer_s=short_s), rate(LONG, 0.50, optimizer_s=long_s)
    return replace(EIGHT, rates=rates)


@pytest.mark.parametrize("timed_s", [(0.2, 0.8), (0.8, 0.2)])
def test_the_range_holds_whichever_length_timed_the_longer_step_of_the_optimizer(timed_s):
    # One process and its last step, at the longer length: what comes on top hides nothing.
    last = Progress(COURSE, COURSE[-1].index, COURSE[-1].total_steps - 1)
    alone = replace(optimizing(*timed_s), processes=1, bus_bytes_per_s=None)
    hours = forecast(CONFIG, alone, progress=last)
    assert hours.low <= hours.value <= hours.high


def test_where_an_optimizer_is_shared_out_the_low_end_pays_a_part_of_it():
    """A refusal rests on the low end; the high end pays the whole step on every process.

    And it waits for all that the shares have moved, which crosses the bus after every step.
    """
    sharing = load_config(CONFIGS, overrides=["compute.zero1=true"])
    slow = optimizing(0.8, 0.8)
    free, whole, shared = (
        forecast(config, measured, progress=NEW)
        for config, measured in ((CONFIG, EIGHT), (CONFIG, slow), (sharing, slow))
    )
    assert whole.low - free.low == pytest.approx(STEPS * 0.8 / 3600)
    assert shared.low - free.low == pytest.approx(STEPS * 0.1 / 3600)
    assert free.value < shared.value < whole.value
    publishing = STEPS * 4 * parameter_count(CONFIG.model).total / EIGHT.bus_bytes_per_s
    assert shared.high - whole.high == pytest.approx(1.10 * publishing / 3600)


def test_where_documents_are_kept_apart_the_low_end_attends_to_none():
    """Whole rows were timed, and a run on flash reads each document by itself."""
    apart = load_config(CONFIGS, overrides=["compute.document_masking=true"])
    rows, documents = (forecast(config, EIGHT, progress=NEW) for config in (CONFIG, apart))
    flops = BATCH * STEPS * flops_per_token(CONFIG.model, 1)
    assert documents.low == pytest.approx(flops / (8 * PEAK * 0.50) / 3600)
    assert documents.low < 0.9 * rows.low
    assert (documents.value, documents.high) == (rows.value, rows.high)


def at(stage: int, stage_step: int, *, attempt: int = 0) -> dict[str, object]:
    """Return a metric row by the settings' own steps."""
    plan = COURSE[stage]
    place = {"step": plan.first_step + stage_step, "attempt": attempt}
    return {**place, "stage": plan.name, "stage_step": stage_step}


def tokens_left(folder: RunFolder, *, mirror: str | None = None, config=CONFIG) -> int:
    found = read_progress(config, folder, mirror=mirror)
    return sum(steps * plan.config.training.batch_tokens for plan, _, steps in found.left())


def begin(folder: RunFolder, attempt: int, step: int, parent: str | None, **more) -> None:
    folder.root.mkdir(parents=True, exist_ok=True)
    begin_attempt(folder.lineage, AttemptStart(attempt, step, parent, "a test", **more))


def test_where_a_run_stands_is_read_from_its_folder_or_its_mirror(tmp_path):
    mirror, here = run_at(tmp_path / "mirror"), RunFolder(tmp_path / "here")
    here.root.mkdir()
    for folder, step in ((mirror, 7), (here, 9)):
        append_row(folder.metrics, at(1, step))
        record_payment(folder.spending, Payment(0, 5.0, 700))
    spent, address = Spent(5.0, 0.0, 5.0), str(tmp_path / "mirror")
    there = read_progress(CONFIG, here, mirror=address)
    assert there == Progress(COURSE, stage=1, stage_step=7, spent=spent)
    begin(here, 0, 0, None)
    assert read_progress(CONFIG, here, mirror=address) == replace(there, stage_step=9)
    nothing = RunFolder(tmp_path / "nowhere")
    empty = str(tmp_path / "empty")
    assert read_progress(CONFIG, nothing, mirror=None) == NEW
    assert read_progress(CONFIG, nothing, mirror=empty) == NEW


@pytest.mark.parametrize("is_at_the_mirror", [False, True])
def test_what_an_extension_trained_is_not_taken_from_later_stages(tmp_path, is_at_the_mirror):
    folder = run_at(tmp_path / "mirror") if is_at_the_mirror else RunFolder(tmp_path / "here")
    first = COURSE[0]
    end = first.base_steps + first.base_steps // 10
    changes = StageChanges(segments=(Segment(0, first.base_steps, 0),))
    longer = extended(changes, first=first.base_steps, end=end, attempt=1).as_row()
    begin(folder, 0, 0, None)
    parent = checkpoint_name(first.base_steps, 0)
    begin(folder, 1, first.base_steps, parent, stage=first.name, changes=longer)
    looked_at = RunFolder(tmp_path / "here")
    address = str(tmp_path / "mirror") if is_at_the_mirror else None
    later = sum(plan.tokens for plan in COURSE[1:])
    append_row(folder.metrics, at(0, first.base_steps + 1, attempt=1))
    assert tokens_left(looked_at, mirror=address) == later + BATCH * (end - first.base_steps - 1)
    append_row(folder.metrics, at(0, end, attempt=1))
    assert tokens_left(looked_at, mirror=address) == later
    append_row(folder.metrics, {**at(1, 1, attempt=1), "step": end + 1})
    assert tokens_left(looked_at, mirror=address) == later - BATCH


@pytest.mark.parametrize("is_at_the_mirror", [False, True])
def test_a_judged_stage_keeps_the_budget_that_it_had(tmp_path, is_at_the_mirror):
    """As `train --stage NAME --num_epochs 1` leaves one, before `run` goes on."""
    folder = run_at(tmp_path / "mirror") if is_at_the_mirror else RunFolder(tmp_path / "here")
    short = load_config(
        CONFIGS,
        stages=[COURSE[0].name],
        overrides=[f"training.total_tokens={1830 * BATCH}"],
    )
    begin(folder, 0, 0, None)
    folder.config.write_text(dump_config(short))
    append_row(folder.metrics, at(0, 1830))
    looked_at = RunFolder(tmp_path / "here")
    address = str(tmp_path / "mirror") if is_at_the_mirror else None
    # Before its verdict it is refused, as any other setting that is no longer the run's.
    assert tokens_left(looked_at, mirror=address) == BATCH * (STEPS - 1830)
    scores = {"why": "a test", "bpb_before": None, "bpb_after": None}
    place = {"stage": COURSE[0].name, "attempt": 0, "step": 1830}
    write_decision(folder, {**place, **scores, "verdict": "pass"}, checks=[])
    later = sum(plan.tokens for plan in COURSE[1:])
    assert tokens_left(looked_at, mirror=address) == later
    # An attempt without a row stands by the same steps.
    folder.metrics.unlink()
    begin(folder, 1, 1840, checkpoint_name(1840, 0))
    assert tokens_left(looked_at, mirror=address) == later - 10 * BATCH


def test_rows_of_a_branch_that_was_left_are_not_behind_the_run(tmp_path):
    folder = RunFolder(tmp_path)
    whole = BATCH * STEPS
    begin(folder, 0, 0, None)
    for step in (1, 4, 9):
        append_row(folder.metrics, at(0, step))
    assert tokens_left(folder) == whole - 9 * BATCH
    begin(folder, 1, 4, checkpoint_name(4, 0))
    assert tokens_left(folder) == whole - 4 * BATCH
    begin(folder, 2, 0, None)
    assert tokens_left(folder) == whole


def test_a_run_in_a_stage_that_these_settings_lack_is_told(tmp_path):
    append_row(RunFolder(tmp_path).metrics, at(1, 1))
    first = CONFIG.model_copy(update={"stages": CONFIG.stages[:1]})
    with pytest.raises(UsageError, match=f"stands in {CONFIG.stages[1].name}, which these"):
        tokens_left(RunFolder(tmp_path), config=first)


def test_an_attempt_without_a_row_stands_where_it_began(tmp_path):
    """A later stage from given weights, and a rollback in it."""
    folder = RunFolder(tmp_path)
    later = COURSE[1]
    whole = tokens_left(folder)
    begin(folder, 0, later.first_step, "/weights")
    assert tokens_left(folder) == whole - later.first_step * BATCH
    append_row(folder.metrics, at(1, 2))
    begin(folder, 1, later.first_step, "/weights")
    assert tokens_left(folder) == whole - later.first_step * BATCH
    begin(folder, 2, later.first_step + 1, "/weights")
    assert tokens_left(folder) == whole - (later.first_step + 1) * BATCH


def test_what_is_wrong_at_a_mirror_is_told_of_the_mirror(tmp_path):
    """And not of the copy, which is gone when it is read."""
    there = run_at(tmp_path / "mirror")
    append_row(there.metrics, {**at(1, 1), "stage": None})
    with pytest.raises(CorruptDataError) as told:
        read_progress(CONFIG, RunFolder(tmp_path / "here"), mirror=str(tmp_path / "mirror"))
    assert str(told.value).startswith(f"{there.metrics}, step ")


@pytest.mark.parametrize("damage", [{"stage": None}, {"stage_step": "many"}])
def test_a_row_that_does_not_say_where_it_stands_is_told(tmp_path, damage):
    append_row(RunFolder(tmp_path).metrics, {**at(1, 1), **damage})
    with pytest.raises(CorruptDataError, match="stage or stage_step is not what a run writes"):
        read_progress(CONFIG, RunFolder(tmp_path), mirror=None)


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


def test_a_step_tells_which_fp8_was_timed_and_that_auto_was_not_tried():
    compute = CONFIG.optimization.compute.model_copy(update={"fp8": "auto"})
    optimization = CONFIG.optimization.model_copy(update={"compute": compute})
    found = look_at_step(EIGHT, CONFIG.model_copy(update={"optimization": optimization}))
    assert (found.state, found.value["fp8"]) == ("pass", "off")
    assert "FP8 off (auto was not tried" in found.why
    rounded = look_at_step(replace(EIGHT, fp8="ffn"), CONFIG)
    assert rounded.value["fp8"] == "ffn"
    assert rounded.why.endswith("FP8 ffn")
