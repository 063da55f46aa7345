"""Each check passes, warns and fails where it says it does."""

import math
import random
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from yxanul.config.gate import ExtensionConfig, ForecastConfig, LevelConfig
from yxanul.config.schema import BudgetConfig, GateConfig
from yxanul.curriculum.checks.budget import Spending, budget_check, budget_share, spending_under
from yxanul.curriculum.checks.check import Check
from yxanul.curriculum.checks.contamination import contamination_checks
from yxanul.curriculum.checks.integrity import Integrity, integrity_check
from yxanul.curriculum.checks.level import fit_forecast, forecast_bpb, level_check
from yxanul.curriculum.checks.plateau import forecast_gain, plateau_check
from yxanul.curriculum.checks.progress import progress_check
from yxanul.curriculum.checks.retention import retention_checks
from yxanul.curriculum.checks.skills import SkillEvidence, skill_checks
from yxanul.curriculum.checks.stability import stability_check
from yxanul.curriculum.statistics.bootstrap import Change
from yxanul.errors import UsageError
from yxanul.runfolder.spending import Spent

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
    """A change of thirty documents whose bounds are these, at any confidence."""
    draws = np.asarray([low] * 5000 + [high] * 5000)
    return Change(value, documents=30, minimal_detectable=0.01, draws=draws)


def retention_check(domain: str, found: Change, *, gate: GateConfig) -> Check:
    return retention_checks({domain: found}, gate=gate, noise={})[0]


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
    few = Change(0.5, documents=4, minimal_detectable=math.inf)
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


def test_a_sentence_tells_the_bound_that_was_measured_and_the_margin_that_is_allowed():
    kept = retention_check("wikipedia", change(-0.02, -0.01, 0.005), gate=GATE)
    assert kept.why == "wikipedia -1.00%, at most +0.50%, where +1.00% is allowed"
    lost = retention_check("wikipedia", change(0.021, 0.03, 0.04), gate=GATE)
    assert "+3.00%, at least +2.10%: forgotten, over +2.00%" in lost.why
    better = skill_checks([skill(answers(400), answers(440), noise=0.001)])[0]
    assert "+4.00 points, at worst +" in better.why
    assert better.why.endswith("where -1.00 points is allowed")
    unknown = skill_checks([skill(answers(400), answers(440))])[0]
    assert unknown.why.endswith("points is allowed (noise of training not known)")
    assert f"at worst {100 * better.low:+.2f} points" in better.why
    worse = skill_checks([skill(answers(400), answers(350))])[0]
    assert f"at best {100 * worse.high:+.2f} points: lost, below the -1.00 points" in worse.why


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


def test_skipped_steps_which_are_all_logged_count_once_among_steps_that_mostly_are_not():
    """Of 1,000 steps each tenth has a row, and so have four that were skipped: 0.4 %, not 4 %."""
    losses = falling(104)
    skipped = frozenset({40, 60, 80, 90})
    for place in skipped:
        losses[place] *= 3
    check = stability_check(losses, GATE, skipped=skipped, steps=1000)
    assert (check.result, check.value) == ("warn", pytest.approx(0.004))
    assert "about 0.40% of the stage's 1,000" in check.why
    # a spike among the rows that are a sample stands for ten steps
    sampled = stability_check(losses, GATE, skipped=skipped - {40}, steps=1000)
    assert sampled.value == pytest.approx((3 + 997 / 101) / 1000)
    every = stability_check(losses, GATE, skipped=skipped, steps=104)
    assert (every.result, every.value) == ("fail", pytest.approx(4 / 104))


@given(st.sets(st.integers(0, 899), max_size=30))
def test_every_step_that_moved_no_weight_counts_once_whatever_it_lost(places):
    """Among the first 16, too, where there is no window yet that a spike could lie above."""
    check = stability_check([2.0] * 1000, GATE, skipped=frozenset(places))
    assert check.value == pytest.approx(len(places) / 1000)
    wanted = "pass" if len(places) <= 1 else "warn" if len(places) <= 10 else "fail"
    assert check.result == wanted
    lost = [math.inf if place in places else 2.0 for place in range(1000)]
    for skipped in (frozenset(), frozenset(places)):
        told = stability_check(lost, GATE, skipped=skipped)
        assert (told.value, told.result) == (check.value, check.result)


def test_five_skipped_steps_of_a_thousand_are_a_warning():
    skipped = frozenset({100, 300, 500, 700, 900})
    check = stability_check([2.0] * 1000, GATE, skipped=skipped)
    assert (check.result, check.value) == ("warn", pytest.approx(0.005))
    assert "5 of 1,000 logged steps are bad (5 of them moved no weight)" in check.why


def test_no_stage_passes_that_was_not_finite_in_its_last_thousand_steps():
    one = frozenset({9_500})
    assert stability_check([2.0] * 10_000, GATE, skipped=one).result == "pass"
    check = stability_check([2.0] * 10_000, GATE, skipped=one, late=1)
    assert (check.result, check.action) == ("warn", None)
    assert "1 of the last 1,000 steps not finite" in check.why
    assert "1 of the last 200 steps" in stability_check([2.0] * 200, GATE, late=1).why


def test_a_stage_that_ends_above_its_beginning_has_diverged():
    check = stability_check([3 + 0.03 * step for step in range(100)], GATE)
    assert (check.result, check.action) == ("fail", "rollback")
    assert "1.9" in check.why


def test_a_stage_that_begins_with_replay_is_measured_from_where_its_own_text_begins():
    losses = [1.5 + 0.05 * step for step in range(70)] + [5 - 0.02 * step for step in range(100)]
    assert stability_check(losses, GATE).action == "rollback"
    assert stability_check(losses, GATE, begins=70).action is None


def test_a_stage_without_rows_is_not_judged():
    assert stability_check([], GATE).result == "not run"


def test_the_forecast_follows_the_last_two_points_in_log_tokens():
    # falls by 0.1 when tokens double: by 0.1 x log2(1.1) with 10 % more
    course = [(0, 5.0), (500, 1.2), (1000, 1.1)]
    assert forecast_gain(course) == pytest.approx(0.1 * math.log2(1.1) / 1.1)
    assert forecast_gain(course[:2]) is None
    assert forecast_gain([]) is None


def test_the_forecast_follows_no_two_points_that_lie_close_to_one_another():
    """As a cycle of an extension ends: two scores half a percent of the stage apart."""
    course = [(0, 5.0), (500, 1.2), (980, 1.09), (995, 1.11), (1000, 1.1)]
    assert forecast_gain(course) == pytest.approx(0.1 * math.log2(1.1) / 1.1)
    assert forecast_gain(course[2:]) is None


def test_of_many_domains_one_that_is_barely_over_the_limit_does_not_fail_alone():
    """Six members need six times the evidence of one, and more only until one has failed."""
    generator = random.Random(5)

    def risen(mean: float) -> Change:
        draws = np.sort([generator.gauss(mean, 0.01) for _ in range(10_000)])
        return Change(mean, documents=200, minimal_detectable=0.028, draws=draws)

    barely = risen(0.02 + 1.8 * 0.01)  # 1.8 deviations over the limit: p = 3.6 %
    assert retention_check("a", barely, gate=GATE).result == "fail"
    others = {name: risen(0.0) for name in "bcdef"}
    family = retention_checks({"a": barely, **others}, gate=GATE, noise={})
    assert family[0].result == "warn"
    surely = {name: risen(0.2) for name in "bcdef"}
    assert retention_checks({"a": barely, **surely}, gate=GATE, noise={})[0].result == "fail"


def skill(before: list[float], after: list[float], **more) -> SkillEvidence:
    values = {"task": "hellaswag", "measure": "acc_norm", "kind": "rate", "margin": 0.01}
    return SkillEvidence(
        **(values | {"gates": True, "dirty": frozenset()} | more), before=before, after=after
    )


def answers(right: int, n: int = 1000) -> list[float]:
    return [1.0] * right + [0.0] * (n - right)


@pytest.mark.parametrize(
    ("right", "result", "action"),
    [(400, "pass", None), (440, "pass", None), (391, "warn", None), (350, "fail", "rollback")],
)
def test_a_skill_may_lose_its_margin_and_no_more(right, result, action):
    check = skill_checks([skill(answers(400), answers(right))])[0]
    assert (check.id, check.subject) == ("G4", "hellaswag acc_norm")
    assert (check.result, check.action) == (result, action)
    assert check.value == pytest.approx((right - 400) / 1000)
    assert check.margin == -0.01


@pytest.mark.parametrize(
    ("factor", "result"), [(0.9, "pass"), (1.0, "pass"), (1.02, "warn"), (1.2, "fail")]
)
def test_bits_of_right_answers_count_the_other_way_round(factor, result):
    generator = random.Random(2)
    before = [generator.lognormvariate(4, 0.5) for _ in range(100)]
    after = [x * factor * generator.gauss(1, 0.05) for x in before]
    found = skill(before, after, task="gsm8k", measure="gold_bpb", kind="bpb", margin=0.02)
    check = skill_checks([found])[0]
    assert check.result == result
    assert check.low < check.value < check.high


def test_what_could_not_be_scored_stops_if_it_gates():
    broken = skill([], [], failure="hellaswag could not be scored")
    check = skill_checks([broken])[0]
    assert (check.result, check.action) == ("not run", "stop")
    told_only = replace(broken, gates=False)
    assert skill_checks([told_only])[0].action is None
    unequal = skill_checks([skill(answers(4, 10), answers(4, 9))])[0]
    assert (unequal.result, unequal.action) == ("not run", "stop")
    never = skill_checks([replace(skill([], answers(4, 10)), before=None)])[0]
    assert (never.result, never.action) == ("not run", None)


def test_accuracy_of_small_models_is_told_and_never_gates():
    told = skill([], answers(3, 164), task="humaneval", measure="pass_at_1", gates=False)
    check = skill_checks([replace(told, before=None)])[0]
    assert (check.result, check.action) == ("not applicable", None)
    assert check.value == pytest.approx(3 / 164)
    assert check.low == pytest.approx(0.0062, abs=2e-4)  # Wilson's interval of 3 of 164
    assert check.high == pytest.approx(0.0525, abs=2e-4)
    assert "no gate" in check.why
    assert "same problems" not in check.why
    kin = skill_checks([replace(told, before=None, kin=("gsm_symbolic",))])[0]
    assert kin.why.endswith("made from the same problems or their kin: gsm_symbolic")


LEVEL = LevelConfig(forecast={"math": ForecastConfig(floor=0.5, scale=20.0, power=0.3)})


@pytest.mark.parametrize(
    ("over", "result", "action"),
    [(-0.2, "pass", None), (0.029, "pass", None), (0.05, "warn", None), (0.09, "fail", "stop")],
)
def test_a_run_that_is_far_behind_its_forecast_stops(over, result, action):
    wanted = forecast_bpb(LEVEL.forecast["math"], 10_000)
    check = level_check("math", wanted * (1 + over), tokens=10_000, level=LEVEL)
    assert (check.result, check.action) == (result, action)


@given(st.floats(0.1, 2), st.floats(1, 100), st.floats(0.1, 0.6))
def test_a_forecast_is_found_again_in_its_own_points(floor, scale, power):
    true = ForecastConfig(floor=floor, scale=scale, power=power)
    points = [(tokens, forecast_bpb(true, tokens)) for tokens in (1e4, 3e4, 1e5, 3e5, 1e6)]
    found = fit_forecast(points, of="math")
    for tokens, bpb in points:
        assert forecast_bpb(found, tokens) == pytest.approx(bpb, rel=0.01)


def test_a_forecast_goes_through_the_score_that_a_gate_judges():
    """A learning rate that falls to zero bends the end of a stage below any curve of its middle."""
    bent = [(tokens * 1e8, 0.8 - 0.002 * tokens**2) for tokens in range(1, 11)]
    assert forecast_bpb(fit_forecast(bent, of="code"), 1e9) == pytest.approx(0.6)


@pytest.mark.parametrize("points", [[(1e3, 2.0)] * 3, [(10.0**k, 1.0 + k) for k in range(1, 6)]])
def test_a_forecast_needs_points_that_fall(points):
    with pytest.raises(UsageError):
        fit_forecast(points, of="math")


def fell(share: float) -> list[tuple[int, float]]:
    """Scores that promise so much from 10 % more tokens."""
    slope = share / math.log(1.1)
    return [(tokens, 1.0 - slope * math.log(tokens / 1000)) for tokens in (800, 900, 1000)]


@pytest.mark.parametrize(
    ("share", "when", "reason", "result"),
    [
        (0.002, "falling", None, "pass"),
        (0.004, "falling", None, "fail"),
        (0.004, "short", None, "pass"),
        (0.004, "falling", "the budget does not last", "pass"),
    ],
)
def test_a_stage_that_still_falls_is_lengthened_where_it_may_be(share, when, reason, result):
    gate = GateConfig(extension=ExtensionConfig(when=when))
    check = plateau_check({"math": fell(share)}, gate=gate, may_extend=reason)
    assert (check.result, check.action) == (result, "extend" if result == "fail" else None)
    assert check.value == pytest.approx(share, rel=1e-6)


def test_the_mean_over_the_domains_tells_whether_a_stage_still_falls():
    gate = GateConfig()
    check = plateau_check({"a": fell(0.004), "b": fell(0.0)}, gate=gate, may_extend=None)
    assert (check.result, check.value) == ("pass", pytest.approx(0.002, rel=1e-6))
    assert (
        plateau_check({"a": fell(0.1)[:1]}, gate=gate, may_extend=None).result == "not applicable"
    )


def test_items_known_from_training_that_shift_a_score_warn_with_the_score_without_them():
    easy = [1.0] * 50 + answers(200, 950)
    same = answers(250, 1000)
    seen = frozenset(range(50))
    check = contamination_checks([skill(easy, easy, dirty=seen)])[0]
    assert check.result == "warn"
    assert check.why.endswith("shift the score: without them it is 21.1%")
    nats = [1.0] * 50 + [2.0, 4.0] * 475
    gold = skill(nats, nats, dirty=seen, measure="gold_bpb", kind="bpb", sizes=[2.0] * 1000)
    told = contamination_checks([gold])[0].why
    assert told.endswith(f"without them it is {1.5 / math.log(2):.4f} bits per byte")
    spread = frozenset(range(0, 1000, 20))
    assert contamination_checks([skill(same, same, dirty=spread)])[0].result == "pass"
    assert contamination_checks([skill(easy, easy, dirty=frozenset({3}))])[0].result == "pass"
    everything = frozenset(range(1000))
    assert contamination_checks([skill(easy, easy, dirty=everything)])[0].result == "warn"


def test_a_skill_that_nobody_has_is_not_shifted_by_known_items():
    nothing = skill(answers(0, 50), answers(0, 50), dirty=frozenset(range(10)))
    check = contamination_checks([nothing])[0]
    assert (check.result, check.value) == ("pass", 0)


def test_known_items_are_found_out_as_rarely_as_two_errors_say():
    """5 % of the trials, when the known items are any."""
    generator = random.Random(3)
    found = 0
    for _ in range(400):
        scores = [float(generator.random() < 0.3) for _ in range(120)]
        known = frozenset(generator.sample(range(120), 20))
        found += contamination_checks([skill(scores, scores, dirty=known)])[0].result == "warn"
    assert 4 <= found <= 38  # four deviations of a binomial around 4.6 %, and it is discrete


def known_by_chance(values: list[float], known: int, **more) -> str:
    found = SkillEvidence(
        *("triviaqa", "exact_match", "rate"),
        gates=True,
        margin=0.1,
        before=values,
        after=values,
        dirty=frozenset(range(known)),
        **more,
    )
    return contamination_checks([found])[0].result


def test_known_items_that_shift_nothing_warn_no_more_often_than_two_errors_promise():
    """Rare right answers, of which a handful of items has none; and items that share a cluster."""
    assert known_by_chance([0.0] * 40, 6) == "pass"
    random = np.random.default_rng(7)
    rare = [known_by_chance([float(x < 0.04) for x in random.random(2000)], 6) for _ in range(300)]
    clusters = [str(i // 10) for i in range(200)]
    shared = [
        known_by_chance(
            list(0.5 + 0.1 * random.normal(size=20).repeat(10) + 0.01 * random.normal(size=200)),
            known=60,
            clusters=clusters,
        )
        for _ in range(300)
    ]
    for results in (rare, shared):
        assert results.count("warn") <= 0.08 * len(results)


def test_scores_whose_items_nobody_looked_for_stop_the_run():
    check = contamination_checks([skill(answers(3), answers(3), dirty=None)])[0]
    assert (check.id, check.result, check.action) == ("G7", "not run", "stop")
    assert contamination_checks([])[0].result == "not applicable"


@pytest.mark.parametrize(
    ("projected", "result", "action"),
    [(3600, "pass", None), (4000, "warn", None), (4200, "fail", "stop")],
)
def test_a_run_that_will_not_fit_its_budget_stops(projected, result, action):
    check = budget_check(Spending(1800.0, projected, 3600.0, usd_per_hour=16.0))
    assert (check.result, check.action) == (result, action)
    assert "($8.00) are spent" in check.why
    assert budget_check(None).result == "not applicable"


def test_dollars_that_are_spent_are_not_priced_anew():
    """15 h on a machine of $6.88, and 4.5 h are left on one of $12.16: $158 of $200."""
    spent = Spent(15 * 3600.0, usd=103.2)
    budget = BudgetConfig(usd=200.0, usd_per_hour=12.16)
    assert budget_share(budget, spent) == pytest.approx(103.2 / 200)
    judged = spending_under(budget, spent, left_s=4.5 * 3600, extension_s=5 * 3600)
    check = budget_check(judged)
    assert (check.result, check.value) == ("pass", pytest.approx((103.2 + 4.5 * 12.16) / 200))
    assert "15.0 h ($103) are spent, 19.5 h ($158) forecast to the end, of $200" in check.why
    assert not judged.is_left_to_extend
    dear = budget.model_copy(update={"usd": 130.0})
    assert budget_check(spending_under(dear, spent, left_s=4.5 * 3600)).action == "stop"


def test_the_tighter_limit_counts():
    budget = BudgetConfig(hours=10.0, usd=50.0, usd_per_hour=10.0)
    assert budget_share(budget, Spent(4 * 3600.0, usd=45.0)) == pytest.approx(0.9)
    assert budget_share(budget, Spent(9.5 * 3600.0, usd=5.0)) == pytest.approx(0.95)
    assert budget_share(budget, Spent(), left_s=5 * 3600.0) == pytest.approx(1.0)
    assert budget_share(BudgetConfig(usd_per_hour=10.0), Spent(1e9)) is None


def test_a_budget_of_a_run_without_a_pace_is_told_and_not_judged():
    check = budget_check(spending_under(BudgetConfig(hours=1.0), Spent(1800.0)))
    assert (check.result, check.action) == ("not applicable", None)
    assert "0.50 h are spent, too few rows to forecast the rest, of 1.00 h" in check.why
    over = spending_under(BudgetConfig(hours=1.0), Spent(1.2 * 3600))
    assert budget_check(over).action == "stop"
    assert not over.is_left_to_extend


def test_a_long_budget_is_told_without_powers_of_ten():
    budget = BudgetConfig(hours=1500.0, usd=20_000.0, usd_per_hour=12.0)
    check = budget_check(spending_under(budget, Spent(1234 * 3600.0, usd=14_808.0), left_s=3600.0))
    spent = "1,234 h ($14,808) are spent, 1,235 h ($14,820) forecast to the end"
    assert check.why == f"{spent}, of 1,500 h and $20,000"


def test_dollars_that_an_older_version_turned_into_seconds_are_judged_as_they_were():
    stored = {"spent_s": 1800.0, "projected_s": 4000.0, "limit_s": 3600.0, "usd_per_hour": 16.0}
    judged = Spending(**stored, extension_s=100.0)
    assert budget_check(judged).value == pytest.approx(4000 / 3600)
    assert not judged.is_left_to_extend
