"""A DeepSpeed JSON may repeat the YAML, leave things to it, and set its buckets; no more."""

import json

import pytest

from yxanul.config.deepspeed import read_deepspeed
from yxanul.config.load import load_config
from yxanul.config.optimization import ComputeConfig, OptimizationConfig, OptimizerConfig
from yxanul.errors import ConfigError


def settings(tmp_path, given, *, precision="bf16"):
    path = tmp_path / "ds.json"
    path.write_text(given if isinstance(given, str) else json.dumps(given))
    compute = ComputeConfig(engine="deepspeed", deepspeed_config=str(path))
    optimization = OptimizationConfig(compute=compute, optimizer=OptimizerConfig(max_grad_norm=0.3))
    return read_deepspeed(optimization, precision=precision)


def test_the_promised_file_agrees_with_the_promised_yaml():
    name = "configs/deepspeed_config.json"
    more = ["compute.engine=deepspeed", f"compute.deepspeed_config={name}"]
    config = load_config("configs", overrides=more)
    found = read_deepspeed(config.optimization, precision="bf16")
    assert found["zero_optimization"]["stage"] == 1
    assert found["gradient_clipping"] == config.optimization.optimizer.max_grad_norm
    with pytest.raises(ConfigError, match=r"bf16.enabled is true and must be false"):
        read_deepspeed(config.optimization, precision="fp32")


def test_auto_and_silence_are_filled_and_buckets_handed_on(tmp_path):
    silent = settings(tmp_path, {})
    auto = {
        "train_batch_size": "auto",
        "gradient_clipping": "auto",
        "bf16": {"enabled": "auto"},
        "optimizer": {"type": "AdamW", "params": {"lr": "auto", "betas": [0.9, 0.95]}},
        "zero_optimization": {"stage": "auto", "reduce_bucket_size": "auto"},
    }
    assert settings(tmp_path, auto) == silent
    assert silent["gradient_clipping"] == 0.3
    assert silent["zero_optimization"] == {"stage": 1, "reduce_bucket_size": 25_000_000}
    zero = {"stage": 1, "reduce_bucket_size": 1000, "overlap_comm": True}
    found = settings(tmp_path, {"zero_optimization": zero, "wall_clock_breakdown": True})
    assert found["zero_optimization"] == zero
    assert found["wall_clock_breakdown"] is True


def test_every_contradiction_is_said(tmp_path):
    with pytest.raises(ConfigError) as error:
        settings(tmp_path, {"gradient_clipping": 1, "fp16": {"enabled": True}, "zero": 1})
    said = str(error.value)
    assert "gradient_clipping is 1 and must be 0.3 (optimizer.max_grad_norm)" in said
    assert "fp16.enabled is true and must be false" in said
    assert "zero is 1, and this program does not hand that on" in said


def test_one_is_not_true(tmp_path):
    with pytest.raises(ConfigError, match="stage is true and must be 1"):
        settings(tmp_path, {"zero_optimization": {"stage": True}})


@pytest.mark.parametrize(
    ("given", "said"), [("{", "it is no JSON"), ("[1]", "it is no JSON object")]
)
def test_a_file_that_is_none_is_one_sentence(tmp_path, given, said):
    with pytest.raises(ConfigError, match=said):
        settings(tmp_path, given)


def test_a_file_that_is_not_there_is_one_sentence(tmp_path):
    compute = ComputeConfig(engine="deepspeed", deepspeed_config=str(tmp_path / "none.json"))
    with pytest.raises(ConfigError, match="it cannot be read"):
        read_deepspeed(OptimizationConfig(compute=compute), precision="bf16")
