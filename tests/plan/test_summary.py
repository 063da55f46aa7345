"""The plan's JSON is a contract, its claims are judged by arithmetic, its tables can be read."""

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from yxanul.config.load import load_config
from yxanul.plan.claims import claims
from yxanul.plan.render import render
from yxanul.plan.summary import plan_json, plan_run
from yxanul.units import format_bytes, format_count

CONFIGS = Path(__file__).parents[2] / "configs"


def verdicts(config):
    return {claim.claim: claim.holds for claim in claims(config)}


def test_the_promises_are_judged_for_the_flagship():
    assert verdicts(load_config(CONFIGS)) == {
        "about 497M parameters": False,
        "under 0.6B parameters": True,
        "57.4B tokens in all": True,
        "100 epochs of mathematics count as 100": False,
        "4B curated unique tokens": False,
    }
    computed = {claim.claim: claim.computed for claim in claims(load_config(CONFIGS))}
    assert computed["about 497M parameters"] == 302_882_304
    assert computed["100 epochs of mathematics count as 100"] == pytest.approx(16.36, abs=0.005)
    assert computed["4B curated unique tokens"] == 2_710_000_000


def test_the_wider_shape_keeps_the_promised_size():
    assert verdicts(load_config(CONFIGS, model="28x768-6080"))["about 497M parameters"] is True


def test_what_cannot_be_known_is_null_with_a_reason():
    for config in (
        load_config(CONFIGS / "embedded"),
        load_config(CONFIGS, overrides=["data.source=embedded"]),
    ):
        unknown = [claim for claim in claims(config) if claim.holds is None]
        assert len(unknown) == 2
        assert all(claim.computed is None and claim.why for claim in unknown)
    alone = load_config(CONFIGS, stages=["stage1_wikipedia"])
    assert verdicts(alone)["100 epochs of mathematics count as 100"] is None


@pytest.mark.parametrize("folder", ["", "embedded", "recipes/no_replay"])
def test_the_json_has_the_promised_fields(folder):
    plan = plan_json(plan_run(load_config(CONFIGS / folder)))
    assert json.loads(json.dumps(plan)) == plan
    assert plan["flops_per_token"]["convention"] == "palm"
    assert plan["total_hours"] is plan["total_usd"] is plan["tokens_per_s"] is None
    assert plan["why"]
    assert {"weights", "gradients", "optimizer", "activations", "total"} <= set(
        plan["memory_bytes"]
    )
    for stage in plan["stages"]:
        assert {"name", "tokens", "epochs", "effective_epochs", "hours", "usd"} <= set(stage)
    assert plan["total_tokens"] == sum(stage["tokens"] for stage in plan["stages"])
    for claim in plan["claims"]:
        assert set(claim) == {"claim", "promised", "computed", "holds", "why"}


def test_the_json_names_the_convention_it_used():
    plan = plan_run(load_config(CONFIGS))
    palm, causal = plan_json(plan), plan_json(plan, "causal")
    assert causal["flops_per_token"]["convention"] == "causal"
    for length, number in palm["flops_per_token"]["by_seq_len"].items():
        assert causal["flops_per_token"]["by_seq_len"][length] < number


@pytest.mark.parametrize("folder", ["", "embedded"])
def test_the_tables_say_the_same_as_the_plan(folder):
    plan = plan_run(load_config(CONFIGS / folder))
    out = io.StringIO()
    Console(file=out, width=120).print(render(plan))
    text = out.getvalue()
    assert f"{plan.count.total:,}" in text
    for stage in plan.stages:
        assert stage.budget.name in text
    assert "does not hold" in text
    assert ("cannot be computed" in text) == (folder == "embedded")


def test_numbers_are_written_for_people():
    assert format_count(302_882_304) == "302.88M"
    assert format_count(14_400_000_000) == "14.4B"
    assert format_count(30e9) == "30B"
    assert format_count(7) == "7"
    assert format_count(16.363) == "16.36"
    assert format_bytes(512) == "512 B"
    assert format_bytes(2**30) == "1 GiB"
    assert format_bytes(4_845_000_000) == "4.51 GiB"
