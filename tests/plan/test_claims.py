"""The promises: each is judged by arithmetic done another way here, or left open with why."""

import re
from pathlib import Path

import pytest

from yxanul.config.load import load_config
from yxanul.plan.claims.judge import claims
from yxanul.plan.hardware import Wishes, machine
from yxanul.plan.storage import disk_bytes, kept_checkpoint_bytes

CONFIGS = Path(__file__).parents[2] / "configs"
TOKENS = 57.4e9
A100, H100 = 8 * 312e12, 8 * 989e12  # dense bf16 FLOP/s


@pytest.fixture(scope="module")
def judged():
    return {claim.claim: claim for claim in claims(load_config(CONFIGS))}


def verdicts(config, machines=()):
    return {claim.claim: claim.holds for claim in claims(config, machines)}


def test_every_promise_of_the_flagship_has_its_verdict():
    assert verdicts(load_config(CONFIGS)) == {
        "about 497M parameters": False,
        "under 0.6B parameters": True,
        "57.4B tokens in all": True,
        "100 epochs of mathematics count as 100": False,
        "4B curated unique tokens": False,
        "40-45K tokens/s on 8x A100": False,
        "60-70K tokens/s on 8x H100 with FP8": False,
        "the wikipedia stage takes 6 hours on 8x A100": True,
        "the reasoning stage takes 5 hours on 8x A100": False,
        "the math stage takes 4 hours on 8x A100": False,
        "the code stage takes 3 hours on 8x A100": True,
        "about 18 hours in all on 8x A100": False,
        "about 18 hours at 40-45K tokens/s": False,
        "about $105 in all on 8x A100": False,
        "under $200 in all": False,
        "sequence curriculum: 3.3x faster": False,
        "gradient checkpointing: 4x batch": True,
        "a card with 24 GB trains it (testing)": True,
        "32 GB of main memory are enough (testing)": True,
        "100 GB of disk are enough (testing)": False,
        "500 GB of disk are enough": True,
        "FP8: 2x throughput on H100 and H200": False,
        "torch.compile: 1.3x overall": True,
        "FlashAttention 3: 2.5x faster attention": None,
        "linear decay to zero: 60 % of compute saved": None,
        "GEGLU: 15 % better than GELU": None,
        "perplexity below 9": None,
        "HellaSwag 65 %": None,
        "TriviaQA 30 %": None,
        "GSM8K 20 %": None,
        "HumanEval 30 %": None,
        "4B curated tokens match 12B random ones": None,
        "28 layers are better than 12 of equal size": None,
        "stages in order beat a random shuffle": None,
    }


def test_size_and_tokens_are_counted(judged):
    assert judged["about 497M parameters"].computed == 302_882_304
    worth = judged["100 epochs of mathematics count as 100"].computed
    assert worth == pytest.approx(16.36, abs=0.005)
    assert judged["4B curated unique tokens"].computed == 2_710_000_000


def test_the_promised_rate_is_an_mfu_of_about_four_percent(judged):
    claim = judged["40-45K tokens/s on 8x A100"]
    assert (claim.promised, claim.promised_high, claim.unit) == (40_000, 45_000, "tokens/s")
    # The published rate at 55 % and the plan's mean length: between those of 1,024 and 2,048.
    low, high = (0.55 * A100 / flops for flops in (2.346e9, 2.081e9))
    assert low < claim.computed < high
    assert "an MFU of 3.7-4.2 %" in claim.why
    assert "an MFU of 1.8-2 %" in judged["60-70K tokens/s on 8x H100 with FP8"].why


def test_the_promised_hours_contradict_the_promised_rate(judged):
    claim = judged["about 18 hours at 40-45K tokens/s"]
    assert claim.computed == pytest.approx(TOKENS / 45_000 / 3600)
    assert "14.8 and 16.6 days" in claim.why


def test_the_promised_hours_of_reasoning_need_more_than_the_cards_can_multiply(judged):
    claim = judged["the reasoning stage takes 5 hours on 8x A100"]
    assert A100 * 5 * 3600 < 30e9 * 1.817e9  # even without any attention
    assert "more than the cards can multiply" in claim.why


def test_hours_of_stages_sum_to_the_hours_of_the_plan(judged):
    stages = [c.computed for name, c in judged.items() if name.startswith("the ")]
    assert len(stages) == 4
    assert sum(stages) == pytest.approx(judged["about 18 hours in all on 8x A100"].computed)


def test_the_promised_dollars_are_below_the_lowest_rent(judged):
    claim = judged["about $105 in all on 8x A100"]
    hours = judged["about 18 hours in all on 8x A100"].computed
    assert claim.computed == pytest.approx(8 * 1.60 * hours)
    assert "$0.73 per GPU-hour, below the lowest rent" in claim.why


def test_under_200_is_judged_by_the_cheaper_machine_and_says_what_each_costs(judged):
    claim = judged["under $200 in all"]
    assert 200 < claim.computed < judged["about $105 in all on 8x A100"].computed
    assert "8xA100-80GB: $" in claim.why
    assert "8xH100: $" in claim.why


def test_short_sequences_cannot_save_what_was_promised(judged):
    claim = judged["sequence curriculum: 3.3x faster"]
    assert 2.874 / 2.346 < claim.computed < 2.874 / 2.081  # as if all were 2,048, or all 1,024
    assert "at most 1.58 times" in claim.why  # 2.874 / 1.817


def test_a_users_own_mfu_and_rent_move_the_verdicts():
    config = load_config(CONFIGS)

    def judge(**wishes):
        chosen = machine(config, "8xA100-80GB", wishes=Wishes(gpus="8xA100-80GB", **wishes))
        return verdicts(config, (chosen,))

    slow = judge(mfu=0.04, usd_per_gpu_hour=0.05)
    assert slow["40-45K tokens/s on 8x A100"] is True
    assert slow["the wikipedia stage takes 6 hours on 8x A100"] is False
    assert judge(usd_per_gpu_hour=0.45)["about $105 in all on 8x A100"] is True
    assert judge(usd_per_gpu_hour=0.45)["under $200 in all"] is True
    fast = judge(mfu=0.9)
    assert fast["about 18 hours in all on 8x A100"] is True
    assert fast["the reasoning stage takes 5 hours on 8x A100"] is False


def test_another_machine_does_not_stand_for_the_promised_one():
    config = load_config(CONFIGS)
    other = machine(config, "4xA100-80GB", wishes=Wishes(gpus="4xA100-80GB", mfu=0.9))
    assert verdicts(config, (other,)) == verdicts(config)


def test_the_wider_shape_keeps_the_promised_size():
    assert verdicts(load_config(CONFIGS, model="28x768-6080"))["about 497M parameters"] is True


def test_what_cannot_be_known_is_null_with_a_reason():
    for config in (
        load_config(CONFIGS / "embedded"),
        load_config(CONFIGS, overrides=["data.source=embedded"]),
        load_config(CONFIGS, overrides=["compute.precision=fp32"]),
        load_config(CONFIGS, stages=["stage1_wikipedia"]),
    ):
        for claim in claims(config):
            assert (claim.holds is None) == (claim.computed is None)
            assert claim.why
    alone = verdicts(load_config(CONFIGS, stages=["stage1_wikipedia"]))
    assert alone["100 epochs of mathematics count as 100"] is None
    assert alone["the code stage takes 3 hours on 8x A100"] is None
    offline = verdicts(load_config(CONFIGS, overrides=["data.source=embedded"]))
    assert offline["4B curated unique tokens"] is offline["500 GB of disk are enough"] is None
    assert offline["100 GB of disk are enough (testing)"] is False  # checkpoints alone are more


def test_a_plan_small_enough_keeps_even_the_promises_that_contradict_each_other():
    small = load_config(CONFIGS, overrides=["training.total_tokens=500000000"])
    assert verdicts(small)["about 18 hours at 40-45K tokens/s"] is True
    assert verdicts(small)["under $200 in all"] is True


def test_what_a_card_measured_judges_the_shape_that_was_measured_only():
    other = verdicts(load_config(CONFIGS, model="28x768-6080"))
    assert other["FP8: 2x throughput on H100 and H200"] is None
    assert other["torch.compile: 1.3x overall"] is None


def test_disk_is_judged_with_what_gates_may_lengthen(judged):
    claim = judged["500 GB of disk are enough"]
    assert claim.computed == disk_bytes(load_config(CONFIGS))
    assert "if gates lengthen every stage" in claim.why
    never = load_config(CONFIGS, overrides=["gate.extension.max_extensions=0"])
    fewer = {one.claim: one.computed for one in claims(never)}["500 GB of disk are enough"]
    assert fewer < claim.computed


def test_checkpoints_that_are_too_large_alone_need_no_data_to_be_judged():
    unread = ["data.source=embedded", "checkpoint.permanent_every_tokens=300000000"]
    config = load_config(CONFIGS, overrides=unread)
    claim = {one.claim: one for one in claims(config)}["500 GB of disk are enough"]
    assert claim.holds is False
    assert claim.computed == kept_checkpoint_bytes(config, is_lengthened=True)
    assert claim.why.startswith("checkpoints alone take")


def test_an_mfu_of_many_times_the_peak_is_no_power_of_ten():
    asked = ["model.hidden_size=131072", "model.intermediate_size=524288"]
    judged = {claim.claim: claim for claim in claims(load_config(CONFIGS, overrides=asked))}
    whys = [claim.why for claim in judged.values() if "MFU" in claim.why]
    assert any("the promise means an MFU of" in why for why in whys)
    assert not [why for why in whys if re.search(r"[0-9]e\+[0-9]", why)]
