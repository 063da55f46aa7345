"""The plan's JSON is a contract, and its tables say the same and can be read."""

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from yxanul.config.load import load_config
from yxanul.plan.cost import Range
from yxanul.plan.hardware import Wishes
from yxanul.plan.memory import CARD_SHARE
from yxanul.plan.parameters import parameter_count
from yxanul.plan.plain import plan_json
from yxanul.plan.render import render
from yxanul.plan.storage import (
    checkpoint_bytes,
    disk_bytes,
    kept_checkpoint_bytes,
    ram_bytes,
    rollback_bytes,
    rollbacks_bytes,
    shard_bytes,
)
from yxanul.plan.summary import plan_run
from yxanul.plan.tables import percent, span
from yxanul.runfolder.checkpoints import CheckpointInfo, checkpoint_name
from yxanul.runfolder.saving import save_checkpoint
from yxanul.units import format_bytes, format_count, format_hours, format_usd

CONFIGS = Path(__file__).parents[2] / "configs"


def printed(plan, width: int) -> str:
    """Return the page of a plan, as wide as a terminal of that width, without its line breaks."""
    out = io.StringIO()
    Console(file=out, width=width).print(render(plan))
    assert "…" not in out.getvalue()  # no figure is cut off
    return " ".join(out.getvalue().split())


_STAGE_FIELDS = {
    *("name", "tokens", "own_tokens", "steps", "unique_tokens", "epochs", "effective_epochs"),
    *("last_token_worth", "flops", "hours", "hours_low", "hours_high"),
    *("usd", "usd_low", "usd_high"),
}


@pytest.mark.parametrize(
    "folder", ["", "embedded", "recipes/no_replay", "recipes/evidence", "recipes/card_24gb"]
)
def test_the_json_has_the_promised_fields(folder):
    plan = plan_json(plan_run(load_config(CONFIGS / folder)))
    assert json.loads(json.dumps(plan)) == plan
    assert plan["flops_per_token"]["convention"] == "palm"
    known = folder != "embedded"  # no public run is as narrow as the embedded model
    for key in ("total_hours", "total_usd", "tokens_per_s"):
        assert (plan[key] is not None) == known
    assert (plan["why"] is None) == known
    assert plan["ram_bytes"] > 0
    # rStar-Coder's page states no number of tokens.
    assert (plan["disk_bytes"] is not None) == (known and folder != "recipes/evidence")
    assert {"weights", "gradients", "optimizer", "activations", "total"} <= set(
        plan["memory_bytes"]
    )
    for stage in plan["stages"]:
        assert set(stage) >= _STAGE_FIELDS
        own = stage["epochs"] and stage["epochs"] * stage["unique_tokens"]
        assert own is None or stage["own_tokens"] == pytest.approx(own)
        assert (stage["hours"] is not None) == (stage["usd"] is not None) == known
    assert plan["total_tokens"] == sum(stage["tokens"] for stage in plan["stages"])
    for claim in plan["claims"]:
        assert {"claim", "promised", "computed", "holds", "why"} <= set(claim)


def test_the_json_names_the_convention_it_used():
    plan = plan_run(load_config(CONFIGS))
    palm, causal = plan_json(plan), plan_json(plan, "causal")
    assert causal["flops_per_token"]["convention"] == "causal"
    for length, number in palm["flops_per_token"]["by_seq_len"].items():
        assert causal["flops_per_token"]["by_seq_len"][length] < number


def test_without_a_choice_the_promised_machine_speaks_and_others_stand_beside_it():
    plan = plan_json(plan_run(load_config(CONFIGS)))
    assert plan["hardware"]["name"] == "8xA100-80GB"
    assert plan["hardware"]["chosen"] is False
    names = [one["name"] for one in plan["machines"]]
    assert names[:4] == ["8xA100-80GB", "8xH100", "1xA100-80GB", "1xH100"]
    for key in ("hours", "usd", "usd_low", "usd_high"):
        assert plan[f"total_{key}"] == plan["machines"][0][key]
    for one in plan["machines"]:
        assert (one["hours"] is None or one["usd"] is None) == (one["why"] is not None)


def test_a_price_and_an_mfu_of_ones_own_leave_no_range():
    wishes = Wishes(gpus="8xH100", mfu=0.41, usd_per_gpu_hour=2.5)
    plan = plan_json(plan_run(load_config(CONFIGS), wishes))
    assert plan["hardware"]["chosen"] is True
    assert [one["name"] for one in plan["machines"]] == ["8xH100"]
    assert plan["total_usd_low"] == plan["total_usd"] == plan["total_usd_high"]
    assert plan["total_usd"] == pytest.approx(8 * 2.5 * plan["total_hours"])
    assert plan["hardware"]["mfu"]["convention"] == "palm"
    assert "--mfu" in plan["hardware"]["mfu"]["source"]


def test_a_checkpoint_is_as_large_as_one_that_was_written(tmp_path):
    import numpy as np

    config = load_config(CONFIGS / "embedded", overrides=["optimizer={name: adamw}"])
    count = parameter_count(config.model).total
    info = CheckpointInfo(
        path=tmp_path / checkpoint_name(1, 0),
        step=1, attempt=0, tokens_seen=1, stage="s", permanent=False, parent=None,
    )  # fmt: skip
    weights = np.zeros(count, np.float32)
    moments = {"exp_avg": weights, "exp_avg_sq": weights}
    save_checkpoint(tmp_path, info, model={"w": weights}, optimizer=moments, state={})
    written = sum(path.stat().st_size for path in info.path.iterdir())
    assert checkpoint_bytes(config) == pytest.approx(written, rel=1e-3)


def test_disk_holds_the_shards_and_the_checkpoints_that_are_kept():
    config = load_config(CONFIGS)
    tokens = 2_710_000_000 / 0.99  # every stage holds out 1 %
    assert shard_bytes(config) == pytest.approx(2 * tokens)
    # The newest, one per stage, one being written, one for each billion tokens.
    whole = sum(stage.training.total_tokens for stage in config.stages)
    kept = kept_checkpoint_bytes(config, is_lengthened=False)
    assert kept == (2 + 4 + 1 + whole // 10**9) * checkpoint_bytes(config)
    # Where a stage may be lengthened, the weights before its decay are kept as well.
    stable = load_config(CONFIGS, overrides=["training.schedule=wsd"])
    more = kept_checkpoint_bytes(stable, is_lengthened=False) - kept
    assert more == 4 * checkpoint_bytes(config)
    assert ram_bytes(config, processes=8) == 8 * checkpoint_bytes(config)
    # Alone, saving takes more than resuming: a copy, and the moments' bytes while they are written.
    assert ram_bytes(config, processes=1) == pytest.approx(5 / 3 * checkpoint_bytes(config))


def test_disk_holds_what_extensions_keep():
    config = load_config(CONFIGS)
    # Two of a tenth each: tokens, their ends, and one that the attempt before leaves behind.
    more = int(1.2 * 57.4) - 57 + 4 * 2 * 2
    longer = kept_checkpoint_bytes(config, is_lengthened=True)
    plain = kept_checkpoint_bytes(config, is_lengthened=False)
    assert longer == plain + more * checkpoint_bytes(config)
    assert disk_bytes(config) == shard_bytes(config) + longer
    never = load_config(CONFIGS, overrides=["gate.extension.max_extensions=0"])
    assert kept_checkpoint_bytes(never, is_lengthened=True) == plain
    # Of those already made the tokens count; the ends that they began at are kept already.
    made = {stage.name: 2 for stage in config.stages}
    done = kept_checkpoint_bytes(config, is_lengthened=False, extended=made)
    assert done == plain + (int(1.2 * 57.4) - 57) * checkpoint_bytes(config)
    assert kept_checkpoint_bytes(config, is_lengthened=True, extended=made) == done
    # Under wsd an extension has the weights before its decay, too, and may do that decay again.
    wsd = ["training.schedule=wsd", "training.decay_fraction=0.5"]
    stable = load_config(CONFIGS, overrides=wsd)
    more = int(57.4 * (1.2 + 2 * 0.5)) - 57 + 4 * 2 * 3
    added = kept_checkpoint_bytes(stable, is_lengthened=True)
    added -= kept_checkpoint_bytes(stable, is_lengthened=False)
    assert added == more * checkpoint_bytes(config)


def test_a_rollback_leaves_a_whole_attempt_behind():
    asked = ["gate.extension.max_extensions=0", "stage2_reasoning.gate.rollback.max_rollbacks=1"]
    config = load_config(CONFIGS, overrides=asked)
    # 30 for its tokens, its end, and the newest before that.
    assert rollback_bytes(config, config.stages[1]) == 32 * checkpoint_bytes(config)
    rest = [rollback_bytes(config, config.stages[number]) for number in (0, 2, 3)]
    assert rollbacks_bytes(config) == 32 * checkpoint_bytes(config) + 2 * sum(rest)
    told = plan_json(plan_run(config))
    assert told["rollbacks"]["disk_bytes"] == rollbacks_bytes(config)
    assert told["disk_bytes"] - told["checkpoints_bytes"] == shard_bytes(config)


def test_the_page_tells_what_gates_may_add_to_hours_and_disk():
    words = printed(plan_run(load_config(CONFIGS)), 120)
    assert "extensions may add" in words
    assert "rollbacks may add" in words
    config = load_config(CONFIGS)
    assert f"up to {format_bytes(rollbacks_bytes(config))} more" in words
    assert f"{format_bytes(disk_bytes(config))} of disk" in words


def test_where_a_stages_tokens_are_not_known_the_checkpoints_are_the_least():
    config = load_config(CONFIGS, overrides=["stage4_code.data.source=embedded"])
    assert disk_bytes(config) is None
    least = kept_checkpoint_bytes(config, is_lengthened=True)
    words = printed(plan_run(config), 120)
    assert f"at least {format_bytes(least)} of disk" in words


def test_a_small_card_is_planned_with_what_fits_it():
    config = load_config(CONFIGS)
    for gpus, tokens in (("RTX-4090", 8192), ("H100", 32_768), ("B200", 32_768)):
        assert plan_run(config, Wishes(gpus=gpus)).memory.micro_batch_tokens == tokens
    fixed = load_config(CONFIGS, overrides=["compute.micro_batch_tokens=65536"])
    plan = plan_run(fixed, Wishes(gpus="RTX-4090"))
    assert plan.memory.micro_batch_tokens == 65_536
    assert "does not fit" in plan.notes[0]
    # What fits need be no power of two.
    between = load_config(CONFIGS, overrides=["compute.micro_batch_tokens=12288"])
    plan = plan_run(between, Wishes(gpus="RTX-4090"))
    assert plan.memory.micro_batch_tokens == 12_288
    assert plan.memory.total <= CARD_SHARE * 24e9
    assert plan.notes[0].startswith("12,288 tokens at a time fit the 24 GB")


_AGAIN = "compute.gradient_checkpointing=true"


@pytest.mark.parametrize(
    ("layers", "overrides", "gpus", "ways"),
    [
        (90, [], "RTX-4090", [_AGAIN, "a shorter training.seq_len_curriculum"]),
        (
            90,
            [_AGAIN, "compute.checkpointed_share=0.1"],
            "RTX-4090",
            ["compute.checkpointed_share=1", "a shorter training.seq_len_curriculum"],
        ),
        (140, [_AGAIN], "RTX-4090", ["optimizer.name=muon"]),
        (140, [_AGAIN, "compute.checkpointed_share="], "RTX-4090", ["optimizer.name=muon"]),
        (140, [], "RTX-4090", [f"{_AGAIN} and optimizer.name=muon"]),
        (140, ["compute.engine=deepspeed"], "8xRTX-4090", ["a smaller model"]),
        # A run's first start tries a card without compute.zero1.
        (150, [_AGAIN], "8xRTX-4090", ["a smaller model"]),
    ],
)
def test_where_one_sequence_does_not_fit_only_what_makes_it_fit_is_named(
    layers, overrides, gpus, ways
):
    wide = load_config(CONFIGS, overrides=[f"model.num_hidden_layers={layers}", *overrides])
    told = plan_run(wide, Wishes(gpus=gpus)).notes[0]
    does_not = "One sequence does not fit the 24 GB of one RTX-4090: another card, or "
    assert told == f"{does_not}{', or '.join(ways)}."


@pytest.mark.parametrize(
    ("gpus", "overrides", "words"),
    [
        ("3xH100", [], "a multiple of 12,288."),
        ("8xH100", ["training.batch_tokens=4096"], "cannot share the 4 rows"),
        ("8xH100", ["compute.compile=off"], "compute.compile is off"),
        ("B200", [], "several sizes of memory"),
    ],
)
def test_what_to_know_before_renting_is_said(gpus, overrides, words):
    plan = plan_run(load_config(CONFIGS, overrides=overrides), Wishes(gpus=gpus))
    assert any(words in note for note in plan.notes)


def test_nothing_is_said_of_compiling_where_it_is_on_or_the_mfu_was_measured():
    on = load_config(CONFIGS, overrides=["compute.compile=block"])
    assert not any("compile" in note for note in plan_run(on).notes)
    measured = plan_run(load_config(CONFIGS), Wishes(gpus="8xH100", mfu=0.3))
    assert not any("compile" in note for note in measured.notes)


@pytest.mark.parametrize("gpus", ["8xA100-80GB", "8xH100"])
def test_a_budget_buys_its_share_of_the_plan(gpus):
    plan = plan_run(load_config(CONFIGS), Wishes(gpus=gpus, budget_usd=200))
    bought, price = plan_json(plan)["budget"], plan.bill.total.usd
    assert bought["tokens"] == pytest.approx(plan.total_tokens * 200 / price.value)
    assert bought["tokens_low"] < bought["tokens"] < bought["tokens_high"]
    free = plan_run(load_config(CONFIGS), Wishes(gpus=gpus, usd_per_gpu_hour=0, budget_usd=200))
    assert plan_json(free)["budget"]["tokens"] is None


WISHES = {
    "no wish": Wishes(),
    "one machine": Wishes(gpus="8xH100", usd_per_gpu_hour=2.5, budget_usd=200),
    "an unknown rent": Wishes(gpus="4xL40S", mfu=0.3, budget_usd=200),
    "all cards at one MFU": Wishes(mfu=0.3),
}


@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.parametrize("kind", WISHES)
@pytest.mark.parametrize("folder", ["", "embedded"])
def test_the_tables_say_the_same_as_the_plan(folder, kind, width):
    plan = plan_run(load_config(CONFIGS / folder), WISHES[kind])
    words = printed(plan, width)
    assert f"{plan.count.total:,}" in words
    for stage in plan.stages:
        assert stage.budget.name in words
    for bill in plan.bills:
        assert bill.total.hours is None or bill.machine.name in words
    for claim in plan.claims:
        assert claim.claim in words or width == 80  # there, long ones are broken
    assert "does not hold" in words
    assert "cannot be computed here" in words
    assert "README of 21 August 2025" in words


def test_numbers_are_written_for_people():
    assert format_count(302_882_304) == "302.88M"
    assert format_count(14_400_000_000) == "14.4B"
    assert format_count(30e9) == "30B"
    assert format_count(7) == "7"
    assert format_count(16.363) == "16.36"
    assert [format_hours(h) for h in (0.001, 6.098, 26.875, 215.4, 1234.5)] == [
        "~0", "6.10", "26.9", "215", "1,234",
    ]  # fmt: skip
    assert [format_usd(usd) for usd in (0, 0.001, 3.456, 9.997, 344.2)] == [
        "$0.00", "~$0", "$3.46", "$10", "$344",
    ]  # fmt: skip
    assert [percent(share) for share in (0.000123, 0.162, 0.99999, 1.2345, 9.996, 1234.5)] == [
        "0.0123 %", "16.2 %", "100 %", "123 %", "1,000 %", "123,450 %",
    ]  # fmt: skip
    assert format_bytes(512) == "512 B"
    assert format_bytes(2**30) == "1 GiB"
    assert format_bytes(4_845_000_000) == "4.51 GiB"


def test_a_span_is_written_once_where_its_ends_read_alike():
    assert span(Range(2.0, 1.0, 3.0), format_hours) == "1.00 - 3.00"
    assert span(Range(2.0, 1.0, 3.0), format_usd, between=" to ") == "$1.00 to $3.00"
    assert span(Range(2.0, 1.999, 2.001), format_hours) == "2.00"
    assert span(None, format_hours) == "?"
