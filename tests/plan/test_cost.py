"""Hours and dollars: the published tables, and laws that hold for every machine."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from yxanul.cards import CARDS
from yxanul.config.load import load_config
from yxanul.errors import UsageError
from yxanul.plan.cost import bill, cost, mfu_of_rate
from yxanul.plan.flops import flops_per_token, recomputed_share
from yxanul.plan.hardware import PROMISED, Wishes, machine, parse_gpus, shown_machines
from yxanul.plan.memory import CARD_SHARE
from yxanul.plan.summary import plan_run

CONFIGS = Path(__file__).parents[2] / "configs"
CONFIG = load_config(CONFIGS)
TOKENS = 57.4e9

cards = st.sampled_from([card.name for card in CARDS])
shares = st.floats(0.001, 0.999)
rents = st.just(0.0) | st.floats(0.01, 10_000)
counts = st.integers(1, 1024)


def rented(name, mfu, rent=None):
    return machine(CONFIG, name, wishes=Wishes(gpus=name, mfu=mfu, usd_per_gpu_hour=rent))


# speed.md 1.3: hours for 57.4B tokens on 8 cards at one length, by card, length and MFU in percent.
PUBLISHED_HOURS = [
    ("8xA100-80GB", 512, {40: 31.1, 50: 24.9, 60: 20.8}),
    ("8xA100-80GB", 1024, {40: 33.2, 50: 26.6, 60: 22.2}),
    ("8xA100-80GB", 2048, {40: 37.5, 50: 30.0, 60: 25.0}),
    ("8xA100-80GB", 4096, {40: 45.9, 50: 36.7, 60: 30.6}),
    ("8xH100", 512, {30: 13.1, 40: 9.8, 50: 7.9, 60: 6.5}),
    ("8xH100", 1024, {30: 14.0, 40: 10.5, 50: 8.4, 60: 7.0}),
    ("8xH100", 2048, {30: 15.8, 40: 11.8, 50: 9.5, 60: 7.9}),
    ("8xH100", 4096, {30: 19.3, 40: 14.5, 50: 11.6, 60: 9.7}),
]


@pytest.mark.parametrize(("name", "seq_len", "hours"), PUBLISHED_HOURS)
def test_hours_are_the_published_table(name, seq_len, hours):
    flops = TOKENS * flops_per_token(CONFIG.model, seq_len)
    for percent, published in hours.items():
        computed = cost(flops, rented(name, percent / 100)).hours.value
        assert computed == pytest.approx(published, abs=0.06)


@pytest.mark.parametrize(
    ("name", "seq_len", "percent", "thousands"),
    [("1xA100-80GB", 1024, 50, 75), ("1xA100-80GB", 4096, 60, 65), ("1xH100", 2048, 40, 169)],
)
def test_tokens_per_second_are_the_published_table(name, seq_len, percent, thousands):
    flops = TOKENS * flops_per_token(CONFIG.model, seq_len)
    hours = cost(flops, rented(name, percent / 100)).hours.value
    assert TOKENS / hours / 3600 / 1000 == pytest.approx(thousands, abs=0.6)


@pytest.mark.parametrize(
    ("name", "mfu", "rent", "seq_len", "dollars"),
    [("8xH100", 0.40, 1.5, 1024, 130), ("8xH100", 0.40, 3, 2048, 285),
     ("8xA100-80GB", 0.55, 0.86, 1024, 165), ("8xA100-80GB", 0.55, 1.5, 2048, 325)],
)  # fmt: skip
def test_dollars_are_the_published_table(name, mfu, rent, seq_len, dollars):
    flops = TOKENS * flops_per_token(CONFIG.model, seq_len)
    assert cost(flops, rented(name, mfu, rent)).usd.value == pytest.approx(dollars, rel=0.04)


def test_every_phase_counts_at_its_own_length():
    for name in ("8xA100-80GB", "8xH100"):
        ours = bill(CONFIG.model, CONFIG.stages, machine=machine(CONFIG, name))
        for stage, price in zip(CONFIG.stages, ours.stages, strict=True):
            lengths = [phase.seq_len for phase in stage.training.seq_len_curriculum]
            ends = [
                cost(
                    stage.training.total_tokens * flops_per_token(CONFIG.model, length),
                    machine(CONFIG, name),
                ).hours.value
                for length in (min(lengths), max(lengths))
            ]
            assert ends[0] < price.hours.value < ends[1]


@given(cards, counts, shares, shares)
def test_hours_fall_as_the_mfu_rises(card, count, one, other):
    low, high = sorted((one, other))
    name = f"{count}x{card}"
    assert cost(1e20, rented(name, high)).hours.value <= cost(1e20, rented(name, low)).hours.value


@given(cards, counts, shares, rents)
def test_dollars_are_cards_times_hours_times_rent(card, count, mfu, rent):
    price = cost(1e20, rented(f"{count}x{card}", mfu, rent))
    assert price.usd.value == pytest.approx(count * price.hours.value * rent)
    assert price.usd.low == price.usd.value == price.usd.high


@given(cards, st.integers(1, 512), shares, rents)
def test_twice_the_cards_take_half_the_hours_for_the_same_dollars(card, count, mfu, rent):
    one = cost(1e20, rented(f"{count}x{card}", mfu, rent))
    two = cost(1e20, rented(f"{2 * count}x{card}", mfu, rent))
    assert two.hours.value == pytest.approx(one.hours.value / 2)
    assert two.usd.value == pytest.approx(one.usd.value)


@given(cards, counts, shares, rents)
def test_stages_sum_to_the_total(card, count, mfu, rent):
    ours = bill(CONFIG.model, CONFIG.stages, machine=rented(f"{count}x{card}", mfu, rent))
    assert sum(stage.hours.value for stage in ours.stages) == pytest.approx(ours.total.hours.value)
    assert sum(stage.usd.value for stage in ours.stages) == pytest.approx(ours.total.usd.value)


@given(cards, counts, shares)
def test_the_rate_of_a_plan_means_the_mfu_it_was_computed_with(card, count, mfu):
    ours = bill(CONFIG.model, CONFIG.stages, machine=rented(f"{count}x{card}", mfu))
    assert mfu_of_rate(ours, ours.tokens_per_s) == pytest.approx(mfu)


def test_assumed_figures_lie_in_their_ranges_and_name_a_source():
    for one in shown_machines(CONFIG, Wishes()):
        for assumed in (one.mfu, one.usd_per_gpu_hour):
            if assumed is not None:
                assert assumed.low <= assumed.value <= assumed.high
                assert assumed.source
        ours = bill(CONFIG.model, CONFIG.stages, machine=one)
        for amount in (ours.total.hours, ours.total.usd):
            if amount is not None:
                assert amount.low < amount.value < amount.high


def test_what_no_source_gives_is_unknown_and_says_what_to_give():
    unknown = machine(CONFIG, "L40S")
    assert unknown.mfu is unknown.usd_per_gpu_hour is None
    assert "--mfu" in unknown.why_unknown
    no_rent = machine(CONFIG, "8xA100-40GB")
    assert cost(1e20, no_rent).hours is not None
    assert cost(1e20, no_rent).usd is None
    assert "--usd_per_gpu_hour" in no_rent.why_unknown
    whole = machine(CONFIG, "L40S", wishes=Wishes(gpus="L40S", mfu=0.4, usd_per_gpu_hour=3.0))
    assert whole.why_unknown is None


@pytest.mark.parametrize(
    ("overrides", "word"),
    [(["model.hidden_size=512"], "512"), (["compute.precision=fp32"], "fp32")],
)
def test_an_estimate_is_not_used_where_it_does_not_hold(overrides, word):
    other = load_config(CONFIGS, overrides=overrides)
    assert machine(other, "8xH100").mfu is None
    assert word in machine(other, "8xH100").why_unknown
    assert machine(other, "8xH100", wishes=Wishes(gpus="8xH100", mfu=0.3)).mfu.value == 0.3


def test_recomputing_costs_hours_unless_the_mfu_was_measured_with_it():
    again = load_config(CONFIGS, overrides=["compute.gradient_checkpointing=true"])
    plain, slower = machine(CONFIG, "8xH100").mfu, machine(again, "8xH100").mfu
    share = recomputed_share(again.model, again.stages)
    assert 0.2 < share < 1 / 3
    assert plain.value / slower.value == pytest.approx(1 + share)
    assert slower.low == pytest.approx(plain.low * 79_207 / 149_341, rel=0.01)
    half = load_config(
        CONFIGS,
        overrides=["compute.gradient_checkpointing=true", "compute.checkpointed_share=0.5"],
    )
    assert slower.low < machine(half, "8xH100").mfu.low < plain.low
    assert machine(again, "H100", wishes=Wishes(gpus="H100", mfu=0.3)).mfu.value == 0.3


def test_an_open_share_is_planned_as_few_recomputed_blocks_as_a_run_would_find():
    """All of them halve the speed at worst; a card of 80 GB has room for all but one."""
    asked = ["compute.gradient_checkpointing=true", "compute.checkpointed_share="]
    left_open = load_config(CONFIGS, overrides=asked)
    of_one = load_config(CONFIGS, overrides=[asked[0], f"{asked[1]}{1 / 28}"])
    assert machine(left_open, "8xH100").mfu == machine(of_one, "8xH100").mfu
    found, wanted = (plan_run(one, Wishes(gpus="8xH100")) for one in (left_open, of_one))
    assert (found.memory, found.notes) == (wanted.memory, wanted.notes)
    # Where the tokens of a pass leave room for less, more is recomputed.
    many = load_config(CONFIGS, overrides=[*asked, "compute.micro_batch_tokens=65536"])
    all_again = load_config(CONFIGS, overrides=asked[:1])
    every, some, few = (machine(one, "A100-40GB").mfu for one in (all_again, many, left_open))
    assert every.low < some.low < few.low


def test_an_open_share_is_counted_with_tokens_that_it_leaves_room_for():
    """Also where no card is named: 1.3B parameters would not fit one with more of them."""
    shape = {"num_hidden_layers": 24, "hidden_size": 2048, "intermediate_size": 8192}
    shape |= {"num_attention_heads": 16, "num_key_value_heads": 16, "head_dim": 128}
    asked = ["compute.gradient_checkpointing=true", "compute.checkpointed_share="]
    asked += [f"model.{key}={value}" for key, value in shape.items()]
    config = load_config(CONFIGS, overrides=asked)
    found, named = plan_run(config), plan_run(config, Wishes(gpus=PROMISED))
    assert found.bill.machine.card == named.bill.machine.card
    assert found.memory == named.memory
    assert found.memory.total <= CARD_SHARE * named.bill.machine.card.memory_bytes


def test_the_overhead_stands_beside_the_total_and_not_in_it():
    ours = bill(CONFIG.model, CONFIG.stages, machine=machine(CONFIG, "8xH100"))
    total, extra = ours.total.hours.value, ours.overhead.hours
    assert (extra.low / total, extra.high / total) == pytest.approx((0.05, 0.10))
    assert sum(stage.hours.value for stage in ours.stages) == pytest.approx(total)


def test_what_gates_may_add_is_every_extension_at_the_last_length():
    asked = {"gate.extension.max_extensions": 3, "gate.extension.fraction": 0.2}
    config = load_config(CONFIGS, overrides=[f"{key}={value}" for key, value in asked.items()])
    ours = bill(config.model, config.stages, machine=machine(config, "8xH100"))
    plain = 0.6 * ours.total.hours.value
    assert plain < ours.extensions.hours.value < 1.3 * plain  # the last length costs most
    assert ours.extensions.hours.low < ours.extensions.hours.value < ours.extensions.hours.high
    never = load_config(CONFIGS, overrides=["gate.extension.max_extensions=0"])
    none = bill(never.model, never.stages, machine=machine(never, "8xH100")).extensions
    assert (none.hours.value, none.usd.value) == (0, 0)


def test_what_rollbacks_may_add_is_every_attempt_with_its_extensions():
    asked = ["gate.rollback.max_rollbacks=3", "gate.extension.fraction=0.5"]
    config = load_config(CONFIGS, overrides=asked)
    ours = bill(config.model, config.stages, machine=machine(config, "8xH100"))
    once = ours.total.hours.value + ours.extensions.hours.value
    assert ours.rollbacks.hours.value == pytest.approx(3 * once)
    never = load_config(CONFIGS, overrides=["gate.rollback.max_rollbacks=0"])
    none = bill(never.model, never.stages, machine=machine(never, "8xH100")).rollbacks
    assert (none.hours.value, none.usd.value) == (0, 0)


@pytest.mark.parametrize(
    ("text", "count", "card"),
    [
        ("8xA100-80GB", 8, "A100-80GB"),
        ("8xa100_80gb", 8, "A100-80GB"),
        ("H100", 1, "H100"),
        (" 4 x H100 ", 4, "H100"),
        ("2xH100-SXM", 2, "H100"),
        ("2xH100-PCIe", 2, "H100-PCIe"),
        ("8xRTX 4090", 8, "RTX-4090"),
        ("8xNVIDIA GeForce RTX 4090", 8, "RTX-4090"),
        ("8x4090", 8, "RTX-4090"),
        ("3090", 1, "RTX-3090"),
        ("8xH100-80GB", 8, "H100"),
        ("8xh100 80gb", 8, "H100"),
        ("NVIDIA H100 80GB HBM3", 1, "H100"),
        ("NVIDIA A100-SXM4-40GB", 1, "A100-40GB"),
        ("2xH100-PCIe-80GB", 2, "H100-PCIe"),
        ("RTX-4090-24GB", 1, "RTX-4090"),
        ("B200-192GB", 1, "B200"),
    ],
)
def test_a_machine_is_read_however_people_write_it(text, count, card):
    read = parse_gpus(text)
    assert (read[0], read[1].name) == (count, card)


@given(counts, cards)
def test_a_machines_name_is_read_back(count, card):
    name = machine(CONFIG, f"{count}x{card}").name
    assert machine(CONFIG, name).name == name


@given(st.text(max_size=20))
def test_any_text_is_a_machine_or_one_sentence(text):
    try:
        count, card = parse_gpus(text)
    except UsageError as error:
        sentence = str(error)
    else:
        sentence = f"--gpus {count}x{card.name}"
        assert count >= 1
    assert sentence.startswith("--gpus")
    assert len(sentence.splitlines()) == 1
