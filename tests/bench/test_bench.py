"""Every part of `yxanul bench` measures what it says, on real parts."""

import json

import pytest

from tests.train.world import STAGES, World

STEP_FIELDS = {
    "tokens_per_s",
    "flops_per_token",
    "mfu",
    "gemm_flops",
    "model",
    "seq_len",
    "micro_batch",
    "precision",
    "compiled",
}
HERE = ("--set", "data.source=texts")  # no hub's data set is named by the world's configs


@pytest.fixture
def world(tmp_path) -> World:
    return World.create(tmp_path)


def measured(call, *words) -> dict:
    code, out, err = call("bench", *map(str, words), "--json")
    assert code == 0, err
    return json.loads(out)


def test_a_step_tells_its_rate_and_what_it_is_a_share_of(call, world):
    place = ("--config_dir", world.root / "configs")
    tiny = ("--model", world.root / "configs" / "model_config.yaml", *HERE)
    found = measured(call, "step", *tiny, *place, "--seq_len", 32, "--micro_batch", 4, "--steps", 3)
    assert found.keys() >= STEP_FIELDS
    assert (found["model"], found["seq_len"], found["micro_batch"]) == ("tiny", 32, 4)
    assert (found["precision"], found["compiled"]) == ("fp32", "off")
    share = found["tokens_per_s"] * found["flops_per_token"] / found["gemm_flops"]
    assert found["mfu"] == pytest.approx(share)


def test_a_step_of_a_named_shape_is_told_in_words(call):
    words = ("--model", "nano", "--seq_len", "8", "--micro_batch", "1", "--steps", "1")
    code, out, err = call("bench", "step", *words)
    assert code == 0, err
    assert out.startswith("nano, 21,258,752 parameters, on ")
    assert "tokens/s" in out
    assert "GFLOP/s" in out


def test_a_loader_is_read_at_every_stage_and_length(call, world):
    world.finish("run", "run", "--max_steps", "1")
    place = ("--config_dir", world.root / "configs", "--data", world.root / "run" / "data", *HERE)
    found = measured(call, "loader", *place, "--batches", 2)["loader"]
    assert [(one["stage"], one["seq_len"]) for one in found] == [
        (stage, length) for stage in STAGES for length in (32, 64)
    ]
    assert all(one["tokens_per_s"] > 0 and one["ms"] > 0 for one in found)


def test_the_tokenizer_encodes_real_text(call):
    found = measured(call, "tokenizer", "--documents", 40)
    assert found["documents"] == 40
    assert 2 < found["bytes"] / found["tokens"] < 6
    assert found["bytes_per_s"] / found["tokens_per_s"] == pytest.approx(
        found["bytes"] / found["tokens"]
    )


def test_every_optimizer_is_timed_with_its_state(call, world):
    model = world.root / "configs" / "model_config.yaml"
    place = ("--config_dir", world.root / "configs", "--model", model, *HERE)
    found = {
        one["optimizer"]: one
        for one in measured(call, "optimizer", *place, "--steps", 2)["optimizers"]
    }
    assert list(found) == ["adamw", "adamw, not fused", "muon"]
    assert found["adamw"]["state_bytes"] == found["adamw, not fused"]["state_bytes"]
    assert found["muon"]["state_bytes"] < found["adamw"]["state_bytes"]
    assert all(one["ms"] > 0 for one in found.values())


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("step", "--seq_len", "100000"), "max_position_embeddings"),
        (("step", "--model", "none-such"), "none-such"),
        (("step", "--set", "compute.engine=deepspeed"), "in torch's engine; leave"),
        (("loader", "--data", "nowhere"), "nowhere"),
        (("tea",), "tea"),
    ],
)
def test_a_mistake_is_one_sentence(call, words, said):
    code, out, err = call("bench", *words)
    assert (code, out) == (30, "")
    assert said in err
    assert len(err.strip().splitlines()) == 1, err
